"""Faults of the network: partitions of every shape, loss, and links that are slow or disorderly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from chaos.faults.fault import took_effect
from chaos.lab.network import CLIENTS, Link, Network, Shape, Told


def between(some: Collection[str], others: Collection[str]) -> list[Link]:
    """The links from `some` to `others` and back."""
    return [pair for a in some for b in others for pair in ((a, b), (b, a))]


def isolated(victim: str, everybody: Iterable[str], *, clients: bool) -> list[Link]:
    """`victim` alone; with `clients`, cut off from them, too."""
    others = [each for each in everybody if each != victim]
    return between([victim], [*others, CLIENTS] if clients else others)


def one_way(source: str, everybody: Iterable[str]) -> list[Link]:
    """`source` hears everybody, and nobody hears it."""
    return [(source, other) for other in everybody if other != source]


def bridge(middle: str, left: Collection[str], right: Collection[str]) -> list[Link]:
    """Two halves that only `middle` reaches both of."""
    return between([each for each in left if each != middle], [each for each in right if each != middle])


def ring(everybody: Sequence[str]) -> list[Link]:
    """Each node reaches its two neighbours only."""
    count = len(everybody)
    return [
        (everybody[a], everybody[b])
        for a in range(count)
        for b in range(count)
        if a != b and (a - b) % count not in (1, count - 1)
    ]


class Partition:
    """Links that drop everything until it is healed."""

    def __init__(self, network: Network, links: Iterable[Link], kind: str, targets: Iterable[str]) -> None:
        self.kind = kind
        self.targets = tuple(targets)
        self._network = network
        self._links = tuple(links)

    async def inject(self) -> None:
        await self._network.block(self._links)
        await took_effect(self._dropped)

    async def _dropped(self) -> bool:
        return await self._network.dropped() > 0

    async def heal(self) -> str:
        dropped = await self._network.dropped()
        await self._network.block(())
        return f"{dropped} packets dropped" if dropped else ""


class Loss:
    """Links that drop a share of their packets."""

    kind = "loss"

    def __init__(self, network: Network, links: Iterable[Link], percent: int, targets: Iterable[str]) -> None:
        self.targets = tuple(targets)
        self._network = network
        self._links = tuple(links)
        self._percent = percent

    async def inject(self) -> None:
        await self._network.lose(self._links, self._percent)
        await took_effect(self._dropped)

    async def _dropped(self) -> bool:
        return await self._network.dropped() > 0

    async def heal(self) -> str:
        dropped = await self._network.dropped()
        await self._network.lose((), 0)
        return f"{dropped} packets of {self._percent} % dropped" if dropped else ""


DELAY = Shape(delay_s=0.1)
JITTER = Shape(jitter_s=0.06)
DUPLICATION = Shape(duplicate_percent=30)
REORDERING = Shape(delay_s=0.02, hurry_percent=25)
BANDWIDTH = Shape(bytes_per_s=32_000)


class Shaped:
    """Links that carry everything, but late, twice, in another order, or little at a time."""

    def __init__(
        self, network: Network, links: Iterable[Link], shape: Shape, kind: str, targets: Iterable[str]
    ) -> None:
        self.kind = kind
        self.targets = tuple(targets)
        self._network = network
        self._links = tuple(links)
        self._shape = shape

    async def inject(self) -> None:
        await self._network.shape(self._links, self._shape)
        await took_effect(self._seen)

    async def _seen(self) -> bool:
        return bool(_evidence(self._shape, await self._network.told()))

    async def heal(self) -> str:
        told = await self._network.told()
        await self._network.shape((), Shape())
        return _evidence(self._shape, told)


def _evidence(shape: Shape, told: Told) -> str:
    """What the shape was for must have happened."""
    if not told.carried:
        return ""
    late = f"{told.carried} pieces carried, {told.late_s / told.carried * 1e3:.1f} ms late each"
    if shape.duplicate_percent:
        return f"{late}, {told.duplicated} of them twice" if told.duplicated else ""
    if shape.hurry_percent:
        return f"{late}, {told.overtaken} overtook others" if told.overtaken else ""
    if shape.bytes_per_s is not None:
        lost = f", {told.lost} dropped" if told.lost else ""
        return f"{late} at {shape.bytes_per_s / 1e3:.0f} kB a second{lost}" if told.late_s else ""
    return late if told.late_s else ""
