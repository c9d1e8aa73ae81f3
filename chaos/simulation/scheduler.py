"""Virtual time: events in their order, one source of randomness, one transcript."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import TypeAlias

from chaos.simulation.violation import Violation

_EVENTS_MAX = 300_000

Sink: TypeAlias = Callable[[str], None]
"""Takes one line of a transcript."""


class Scheduler:
    """Runs events by their virtual time (seconds), those of one time in the order they were planned.

    Everything that is drawn is drawn from `rng`, and nothing is drawn for the transcript's sake: a seed is
    the same history whether somebody reads along or not.
    """

    def __init__(self, seed: int, sink: Sink | None = None) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.events = 0
        self._sink = sink
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def after(self, delay_s: float, run: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._planned, (self.now + delay_s, self._order, run))

    def advance(self, seconds: float) -> None:
        """Runs what is due within the next `seconds`."""
        end = self.now + seconds
        while self._planned and self._planned[0][0] <= end:
            self.now, _, run = heapq.heappop(self._planned)
            self.events += 1
            if self.events > _EVENTS_MAX:
                raise Violation(f"{_EVENTS_MAX:,} events and no end: somebody talks without getting on")
            run()
        self.now = end

    def note(self, who: str, what: str, *details: object) -> None:
        """One line of the transcript, when there is one."""
        if self._sink is not None:
            self._sink(f"{self.now:10.6f}  {who:<8} {what} {' '.join(map(_readable, details))}".rstrip())


def _readable(detail: object) -> str:
    """A value in a line: a struct field by field; of bytes, and of what holds them, only the size."""
    fields = getattr(detail, "__struct_fields__", None)
    if fields is not None:
        shown = " ".join(f"{name}={_readable(getattr(detail, name))}" for name in fields)
        return f"{type(detail).__name__}({shown})"
    if isinstance(detail, bytes):
        return f"{len(detail)}B"
    if isinstance(detail, tuple | list):
        return f"[{', '.join(map(_readable, detail))}]"
    return str(detail)
