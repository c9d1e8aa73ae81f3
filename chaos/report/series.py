"""What a timeline draws, from the history: counts and latencies in buckets of time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import msgspec

from chaos.history import Operation

_NS_PER_S = 1e9
_WIDTHS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One number a bucket. Rates are a second; latencies are milliseconds, None where nothing was done."""

    width_s: float
    writes: list[float]
    reads: list[float]
    refused: list[float]
    unknown: list[float]
    p50_ms: list[float | None]
    p99_ms: list[float | None]


def bucket_s(seconds: float, buckets_max: int) -> float:
    """The narrowest round width that needs at most so many buckets."""
    return next((width for width in _WIDTHS_S if seconds / width <= buckets_max), _WIDTHS_S[-1])


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of a sorted, non-empty sequence."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def latency_ms(operation: Operation) -> float:
    return (operation.completed_ns - operation.invoked_ns) / 1e6


class Buckets:
    """Each operation counts in the bucket in which it ended; those past the end count in the last one."""

    def __init__(self, began_ns: int, seconds: float, width_s: float) -> None:
        self._began_ns = began_ns
        self._width_s = width_s
        self._count = max(math.ceil(seconds / width_s - 1e-9), 1)
        self._latencies = [array("f") for _ in range(self._count)]
        self._counts = {name: [0] * self._count for name in ("writes", "reads", "refused", "unknown")}

    def add(self, operation: Operation) -> None:
        at = int((operation.completed_ns - self._began_ns) / _NS_PER_S / self._width_s)
        at = min(max(at, 0), self._count - 1)
        if operation.outcome == "ok":
            self._counts["writes" if operation.writes else "reads"][at] += 1
            self._latencies[at].append(latency_ms(operation))
        else:
            self._counts[operation.outcome][at] += 1

    def series(self) -> Series:
        latencies = [sorted(each) for each in self._latencies]
        return Series(
            width_s=self._width_s,
            **{
                name: [round(number / self._width_s, 1) for number in each]
                for name, each in self._counts.items()
            },
            p50_ms=[round(quantile(each, 0.5), 2) if each else None for each in latencies],
            p99_ms=[round(quantile(each, 0.99), 2) if each else None for each in latencies],
        )
