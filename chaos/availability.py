"""How long writes stopped, which fault was at work then, and how soon they went on when it was healed."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chaos.faults.fault import Happened
from chaos.history import Operation

_NS_PER_S = 1e9


class Gap(NamedTuple):
    """A time without an acknowledged write, in monotonic nanoseconds."""

    began_ns: int
    ended_ns: int

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / _NS_PER_S


class WriteTimes:
    """When writes were acknowledged: 8 bytes each, so that those of hours fit into memory."""

    def __init__(self, history: Iterable[Operation] = ()) -> None:
        self._ended_ns = array("q")
        self._last_ns = 0
        for each in history:
            self.add(each)

    def add(self, operation: Operation) -> None:
        self._last_ns = max(self._last_ns, operation.completed_ns)
        if operation.writes and operation.outcome == "ok":
            self._ended_ns.append(operation.completed_ns)

    def __len__(self) -> int:
        return len(self._ended_ns)

    def gaps(self, at_least_s: float = 0.0) -> list[Gap]:
        """Times between two acknowledged writes, over all clients, and from the last one to the end."""
        ended = sorted(self._ended_ns)
        if ended and ended[-1] < self._last_ns:
            ended.append(self._last_ns)
        at_least_ns = at_least_s * _NS_PER_S
        return [Gap(began, end) for began, end in itertools.pairwise(ended) if end - began >= at_least_ns]


def longest_by_fault(gaps: Sequence[Gap], faults: Iterable[Happened]) -> dict[str, list[float]]:
    """For each kind of fault, the longest gap in seconds that each of its occurrences overlaps."""
    found: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        longest_s = 0.0
        for gap in _from(gaps, fault.began_ns):
            if gap.began_ns >= fault.healed_ns:
                break
            longest_s = max(longest_s, gap.seconds)
        found[fault.kind].append(longest_s)
    return dict(found)


def recovery_by_fault(gaps: Sequence[Gap], faults: Iterable[Happened]) -> dict[str, list[float]]:
    """For each kind of fault, how long after each of its occurrences was healed writes still stood still."""
    found: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        gap = next(iter(_from(gaps, fault.healed_ns)), None)
        stood = gap is not None and gap.began_ns <= fault.healed_ns
        found[fault.kind].append((gap.ended_ns - fault.healed_ns) / _NS_PER_S if gap and stood else 0.0)
    return dict(found)


def _from(gaps: Sequence[Gap], at_ns: int) -> Iterable[Gap]:
    """Those that end later, in their order."""
    return itertools.islice(gaps, bisect_right(gaps, at_ns, key=lambda gap: gap.ended_ns), None)
