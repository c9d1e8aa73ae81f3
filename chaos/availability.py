"""How long writes stopped, and which fault was at work then."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
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


def gaps(history: Sequence[Operation]) -> list[Gap]:
    """Times between two acknowledged writes, over all clients, and from the last one to the end."""
    ended = sorted(each.completed_ns for each in history if each.writes and each.outcome == "ok")
    last_ns = max((each.completed_ns for each in history), default=0)
    if ended and ended[-1] < last_ns:
        ended.append(last_ns)
    return [Gap(began, end) for began, end in itertools.pairwise(ended)]


def longest_by_fault(history: Sequence[Operation], faults: Sequence[Happened]) -> dict[str, list[float]]:
    """For each kind of fault, the longest gap in seconds that each of its occurrences overlaps."""
    found: dict[str, list[float]] = defaultdict(list)
    every = gaps(history)
    for fault in faults:
        overlapping = [
            gap.seconds for gap in every if gap.ended_ns > fault.began_ns and gap.began_ns < fault.healed_ns
        ]
        found[fault.kind].append(max(overlapping, default=0.0))
    return dict(found)
