"""Hundreds of histories full of faults; and the same harness on broken rules, which it must find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consensus import follower, limits
from consensus.config import Role
from consensus.follower import Answer
from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse
from consensus.raft_rules import RaftRules
from tests.consensus.promises import Violation
from tests.consensus.simulation import Faults, Simulation

SEEDS_PER_TEST = 25


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small windows, batches and caches, so that a short history meets every edge of them."""
    monkeypatch.setattr(limits, "BATCH_ENTRIES_MAX", 4)
    monkeypatch.setattr(limits, "IN_FLIGHT_BATCHES_MAX", 3)
    monkeypatch.setattr(limits, "APPLY_ENTRIES_PER_TICK_MAX", 5)
    monkeypatch.setattr(limits, "LOG_CACHE_ENTRIES_MAX", 8)
    monkeypatch.setattr(limits, "LOG_SCAN_ENTRIES_MAX", 3)
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 4)
    monkeypatch.setattr(limits, "LOG_COMPACTION_STEP_ENTRIES", 4)


def play(seed: int, *, size: int = 3, faults: Faults | None = None, seconds: float = 4.0) -> Simulation:
    try:
        simulation = Simulation(seed, size=size, faults=faults)
        simulation.run(seconds)
        simulation.heal()
    except Exception as error:
        error.add_note(f"seed {seed}, {size} members, {faults}")
        raise
    return simulation


@pytest.mark.parametrize("first_seed", range(0, 200, SEEDS_PER_TEST))
def test_three_members_keep_every_promise(first_seed: int) -> None:
    acknowledged = reads = leaders = deleted = 0
    for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
        simulation = play(seed)
        acknowledged += sum(each.index is not None for each in simulation.promises.proposals)
        reads += sum(each.passed for each in simulation.reads)
        leaders += len(simulation.promises.leaders)
        deleted += any(m.core is not None and m.core.log.first_index > 1 for m in simulation.members)
    # A history in which nothing happens proves nothing.
    assert acknowledged > 100 * SEEDS_PER_TEST
    assert reads > 5 * SEEDS_PER_TEST
    assert leaders > 2 * SEEDS_PER_TEST
    assert deleted > SEEDS_PER_TEST // 2
