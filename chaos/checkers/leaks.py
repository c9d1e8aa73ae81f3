"""A node gives back what it takes: descriptors, threads, memory and tasks do not grow for ever."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from chaos.checkers.anomaly import Anomaly

SAMPLES_MIN = 40
"""Fewer of one process say nothing: it has just started, or was killed."""
DESCRIPTORS_GROWTH_MAX = 100
THREADS_GROWTH_MAX = 20
MEMORY_GROWTH_BYTES_MAX = 400 * 1024 * 1024
"""RocksDB's caches and write buffers fill up to a few hundred MiB; a leak goes on."""
TASKS_GROWTH_MAX = 8
"""Of nodes of whom nothing is asked, against the busiest of them before the load: a leader has a few more."""

_PAGE_SIZE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """What one process held at one moment."""

    node: str
    pid: int
    descriptors: int
    threads: int
    memory_bytes: int


def sample(node: str, pid: int) -> Sample | None:
    """From /proc; None when the process is gone."""
    place = Path(f"/proc/{pid}")
    try:
        pages = int((place / "statm").read_text().split()[1])
        descriptors, threads = len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
    except OSError:
        return None
    return Sample(node, pid, descriptors, threads, pages * _PAGE_SIZE_BYTES)


def check(samples: Iterable[Sample]) -> list[Anomaly]:
    """Of each process: the last quarter of its life against the second one, when it has long warmed up."""
    found: list[Anomaly] = []
    lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for each in samples:
        lives[each.node, each.pid].append(each)
    for (node, pid), life in lives.items():
        if len(life) < SAMPLES_MIN:
            continue
        for what, values, growth_max in (
            ("descriptors", [each.descriptors for each in life], DESCRIPTORS_GROWTH_MAX),
            ("threads", [each.threads for each in life], THREADS_GROWTH_MAX),
            ("bytes of memory", [each.memory_bytes for each in life], MEMORY_GROWTH_BYTES_MAX),
        ):
            before, after = _quarters(values)
            if after - before > growth_max:
                grown = f"{node} (pid {pid}): from {before:,.0f} to {after:,.0f} {what}"
                found.append(Anomaly("nothing leaks", grown))
    return found


def check_tasks(before: Mapping[str, int], after: Mapping[str, int]) -> list[Anomaly]:
    """Tasks of each node when nothing was asked of it yet, and when nothing is any more."""
    limit = max(before.values(), default=0) + TASKS_GROWTH_MAX
    silent = [
        Anomaly("nothing leaks", f"{node} does not tell its tasks any more") for node in before.keys() - after
    ]
    return silent + [
        Anomaly("nothing leaks", f"{node}: from {before.get(node, 0)} to {tasks} tasks, and nothing is asked")
        for node, tasks in after.items()
        if tasks > limit
    ]


def _quarters(values: Sequence[int]) -> tuple[float, float]:
    quarter = len(values) // 4
    return median(values[quarter : 2 * quarter]), median(values[-quarter:])
