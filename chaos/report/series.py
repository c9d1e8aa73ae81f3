"""What a timeline draws, from the history: counts and latencies in buckets of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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


def series(history: Iterable[Operation], began_ns: int, seconds: float, width_s: float) -> Series:
    """Each operation counts in the bucket in which it ended; those past the end count in the last one."""
    count = max(math.ceil(seconds / width_s - 1e-9), 1)
    latencies: list[list[float]] = [[] for _ in range(count)]
    counts = {name: [0] * count for name in ("writes", "reads", "refused", "unknown")}
    for operation in history:
        at = int((operation.completed_ns - began_ns) / _NS_PER_S / width_s)
        at = min(max(at, 0), count - 1)
        if operation.outcome == "ok":
            counts["writes" if operation.writes else "reads"][at] += 1
            latencies[at].append(latency_ms(operation))
        else:
            counts[operation.outcome][at] += 1
    for found in latencies:
        found.sort()
    rates = {name: [round(number / width_s, 1) for number in each] for name, each in counts.items()}
    return Series(
        width_s=width_s,
        **rates,
        p50_ms=[round(quantile(each, 0.5), 2) if each else None for each in latencies],
        p99_ms=[round(quantile(each, 0.99), 2) if each else None for each in latencies],
    )
