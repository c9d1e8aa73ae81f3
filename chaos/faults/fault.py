"""The interface of faults, and the record of one that happened."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec


class Fault(Protocol):
    """Something bad that is done to a cluster, and later undone."""

    @property
    def kind(self) -> str:
        """The same word for all faults of a class, for counting."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The nodes it is aimed at."""
        ...

    async def inject(self) -> None: ...

    async def heal(self) -> str:
        """Undoes it and returns the evidence that it took effect; empty when there is none."""
        ...


class Then:
    """Two faults, the second while the first one lasts; both leave evidence or there is none."""

    def __init__(self, first: Fault, second: Fault, after_s: float) -> None:
        self.kind = f"{first.kind}, then {second.kind}"
        self._first = first
        self._second = second
        self._after_s = after_s

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._first.targets, *self._second.targets)))

    async def inject(self) -> None:
        await self._first.inject()
        await asyncio.sleep(self._after_s)
        await self._second.inject()

    async def heal(self) -> str:
        evidence = [await self._first.heal(), await self._second.heal()]
        return "; ".join(evidence) if all(evidence) else ""


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One line of faults.jsonl. Times are monotonic nanoseconds, as in the history."""

    kind: str
    targets: tuple[str, ...]
    began_ns: int
    healed_ns: int
    evidence: str
