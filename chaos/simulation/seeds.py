"""Many seeds: which one breaks a promise first, and how many a minute."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from chaos.simulation.world import History, play

Size: TypeAlias = Literal["3", "5", "mixed"]

_PROGRESS_S = 10.0


@dataclass(slots=True)
class Summary:
    """What a run of seeds showed. `violating` is the first history that broke a promise, if one did."""

    seeds: int = 0
    elapsed_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violating: History | None = None

    @property
    def seeds_per_minute(self) -> float:
        return 60 * self.seeds / self.elapsed_s if self.elapsed_s else 0.0

    def line(self) -> str:
        shown = ("committed", "acknowledged", "reads", "leaders", "crashes", "memberships", "installed")
        happened = ", ".join(f"{self.counts[name]:,} {name}" for name in shown)
        return f"{self.seeds:,} seeds, {self.seeds_per_minute:,.0f} a minute: {happened}"


def nodes_of(seed: int, size: Size) -> int:
    """How many nodes a seed's cluster has; "mixed" gives every fourth seed five and the others three."""
    if size == "mixed":
        return 5 if seed % 4 == 0 else 3
    return int(size)


def parse_seeds(text: str) -> range:
    """Seeds as `A..B`, both included, or one number. Raises ValueError."""
    first, dots, last = text.partition("..")
    seeds = range(int(first), int(last if dots else first) + 1)
    if not seeds:
        raise ValueError(f"there are no seeds in {text!r}")
    return seeds


def _play_one(arguments: tuple[int, int]) -> History:
    return play(*arguments)


@contextmanager
def histories(seeds: Iterable[int], size: Size, jobs: int) -> Iterator[Iterator[History]]:
    """Plays seeds in `jobs` processes; the histories come in the order of their seeds."""
    games: Sequence[tuple[int, int]] = [(seed, nodes_of(seed, size)) for seed in seeds]
    if jobs == 1:
        yield map(_play_one, games)
        return
    # A process of its own for each, from the beginning: nothing of one history is seen in another.
    with multiprocessing.get_context("spawn").Pool(jobs, _quiet) as pool:
        yield pool.imap(_play_one, games)


def _quiet() -> None:
    """Thousands of faults need not be reported one by one."""
    logging.disable(logging.CRITICAL)


def run(
    seeds: Iterable[int],
    size: Size,
    *,
    jobs: int = 1,
    minutes: float | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Plays seeds until one breaks a promise, they end, or the minutes are over."""
    summary = Summary()
    began = reported = time.monotonic()
    with histories(seeds, size, jobs) as played:
        for history in played:
            now = time.monotonic()
            summary.seeds += 1
            summary.elapsed_s = now - began
            summary.counts += history.counts
            if history.violation is not None:
                summary.violating = history
                break
            if now - reported >= _PROGRESS_S:
                reported = now
                progress(f"seed {history.seed}: {summary.line()}")
            if minutes is not None and now - began >= 60 * minutes:
                break
    return summary
