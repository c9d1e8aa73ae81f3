"""Many seeds, one after the other: which one breaks a promise first, and how many a minute."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
        shown = ("committed", "acknowledged", "reads", "leaders", "crashes")
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


def histories(seeds: Iterable[int], size: Size) -> Iterator[History]:
    """Plays seed after seed."""
    for seed in seeds:
        yield play(seed, nodes_of(seed, size))


def run(
    seeds: Iterable[int],
    size: Size,
    *,
    minutes: float | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Plays seeds until one breaks a promise, they end, or the minutes are over."""
    summary = Summary()
    began = reported = time.monotonic()
    for history in histories(seeds, size):
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
