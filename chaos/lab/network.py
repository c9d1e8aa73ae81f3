"""What the laboratory asks of a network between zones; `namespaces.py` and `proxies.py` are two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

Link = tuple[str, str]
"""A directed link: who sends, who would receive. Ids of nodes, or CLIENTS."""

CLIENTS = "clients"


def between_zones(zones: Mapping[str, str]) -> list[Link]:
    """The links whose ends are in different zones, of nodes only."""
    return [(source, target) for source in zones for target in zones if zones[source] != zones[target]]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the frames of one direction of a link. The default is nothing."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to so much more, for each frame by itself: they overtake one another."""
    duplicate_percent: int = 0
    hurry_percent: int = 0
    """These frames do not wait at all: they overtake those before them."""
    lose_percent: int = 0
    bytes_per_s: float | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to frames since the last change: the evidence."""

    carried: int = 0
    late_s: float = 0.0
    """How long all of them waited, together."""
    duplicated: int = 0
    overtaken: int = 0
    lost: int = 0

    def plus(self, other: Told) -> Told:
        return Told(
            carried=self.carried + other.carried,
            late_s=self.late_s + other.late_s,
            duplicated=self.duplicated + other.duplicated,
            overtaken=self.overtaken + other.overtaken,
            lost=self.lost + other.lost,
        )


class Network(Protocol):
    """The wires between nodes and clients. Faults replace one another: each call states all that holds.

    What nodes of different zones say to each other may be under way for some time, faults or none.
    """

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leaves nothing behind. Safe to call twice."""
        ...

    async def add(self, node_id: str, zone: str) -> None:
        """One node more, in a zone that there is."""
        ...

    def address(self, node_id: str) -> str:
        """Where a node's servers listen."""
        ...

    def dial(self, source: str, target: str) -> str:
        """Where `source`, a node or CLIENTS, reaches the servers of `target`."""
        ...

    def command(self, node_id: str, command: list[str]) -> list[str]:
        """How to run `command` as that node."""
        ...

    async def block(self, links: Iterable[Link]) -> None:
        """From now on these links drop everything, and all others nothing."""
        ...

    async def lose(self, links: Iterable[Link], percent: int) -> None:
        """From now on these links drop that share of their packets, besides those that are blocked."""
        ...

    async def shape(self, links: Iterable[Link], shape: Shape) -> None:
        """From now on these links, of nodes only, have that shape, and all others none."""
        ...

    async def told(self) -> Told:
        """What was done to the frames of shaped links since the last change: the evidence."""
        ...

    @property
    def reorders(self) -> bool:
        """Whether frames can come twice or out of order here: there must be frames."""
        ...

    async def dropped(self) -> int:
        """Packets dropped, or held back, since the last change: the evidence that a fault took effect."""
        ...
