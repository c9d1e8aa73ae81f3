"""What a history adds up to, gathered in one pass: an hour of operations never is in memory at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from chaos.availability import Gap, WriteTimes
from chaos.history import Operation

GAP_MIN_S = 0.02
"""Shorter times without an acknowledged write are no stops: writes take so long."""

_STEPS_PER_DECADE = 50
"""Latencies are counted in steps of 5 %."""


class Outline:
    """Add every operation, in any order."""

    def __init__(self, history: Iterable[Operation] = ()) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By kind and outcome."""
        self.errors: Counter[str] = Counter()
        self.last_ns = 0
        """When the last operation ended: healing the last fault may take longer than the load."""
        self._writes = WriteTimes()
        self._latencies: Counter[int] = Counter()
        for each in history:
            self.add(each)

    def add(self, operation: Operation) -> None:
        self.counts[operation.kind, operation.outcome] += 1
        self.last_ns = max(self.last_ns, operation.completed_ns)
        self._writes.add(operation)
        if operation.outcome == "ok":
            took_ms = max((operation.completed_ns - operation.invoked_ns) / 1e6, 1e-3)
            self._latencies[math.ceil(math.log10(took_ms) * _STEPS_PER_DECADE)] += 1
        elif operation.error:
            self.errors[operation.error.partition("(")[0]] += 1

    @property
    def operations(self) -> int:
        return self.counts.total()

    @property
    def writes(self) -> int:
        """How many writes were acknowledged."""
        return len(self._writes)

    def gaps(self) -> list[Gap]:
        """Stops of writes, of GAP_MIN_S and longer, in their order."""
        return self._writes.gaps(GAP_MIN_S)

    def latency_ms(self, share: float) -> float | None:
        """A quantile of what was done, to 5 %; None when nothing was."""
        left = max(math.ceil(share * self._latencies.total()), 1)
        for step in sorted(self._latencies):
            left -= self._latencies[step]
            if left <= 0:
                return float(10 ** (step / _STEPS_PER_DECADE))
        return None
