"""The interface of faults, and the record of one that happened."""

from __future__ import annotations

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


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One line of faults.jsonl. Times are monotonic nanoseconds, as in the history."""

    kind: str
    targets: tuple[str, ...]
    began_ns: int
    healed_ns: int
    evidence: str
