"""The interface of faults, and the record of one that happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from chaos import limits


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


async def took_effect(happened: Callable[[], Awaitable[bool]]) -> None:
    """Waits until a fault that was injected has hit something; how long it is held counts from then on.

    Nodes that were just started, or links that wait before they are dialled again, need a moment until there
    is anything to hit. Returns without it after EFFECT_TIMEOUT_S: there is no evidence then.
    """
    deadline_s = time.monotonic() + limits.EFFECT_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if await happened():
            return
        await asyncio.sleep(limits.POLL_S)


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
