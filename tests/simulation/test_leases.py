"""A leader with a slow clock is cut off from members with fast ones: what its lease is worth then."""

from __future__ import annotations

import random
from dataclasses import replace

from chaos.simulation.faults import CLOCK_DRIFT_PPM, CLOCK_RATES
from chaos.simulation.world import World
from consensus.config import ReadLease
from tests.consensus.cores import Outcome
from tests.simulation.test_returns import MILD

SEEDS = 30
ALONE = "n0"


def reads_after_the_cut(seed: int, rates: tuple[float, float], lease: ReadLease) -> tuple[int, int]:
    """How many reads the leader that was cut off answers, and how many of them once another one has
    committed something."""
    world = World(seed, 3, weather=replace(MILD, read_lease=lease))
    slow, fast = rates
    for node in world.nodes:
        node._clock_rate = slow if node.id == ALONE else fast
    world.start()
    world.scheduler.advance(3.0)
    old = world.node(ALONE).core
    first = world.leader()
    assert old is not None
    assert first is not None
    if first is not old:
        first.transfer(ALONE, Outcome())
        world.scheduler.advance(3.0)
    assert old.leads
    rest = [each for each in world.ids if each != ALONE]
    cut_at = random.Random(seed).uniform(0.0, 0.1)
    world.scheduler.advance(cut_at)
    world.block({(each, ALONE) for each in rest} | {(ALONE, each) for each in rest})
    answered = stale = 0
    for _ in range(150):
        leader = world.leader()
        deposed = leader is not None and leader is not old and leader.commit_index > old.commit_index
        outcome = Outcome()
        if old.leads:
            world.node(ALONE).ask(lambda core, told=outcome: core.read(told))  # type: ignore[misc]
        world.scheduler.advance(0.01)
        passed = outcome.told and outcome.error is None
        answered += passed
        stale += passed and deposed
    return answered, stale


def test_within_the_bound_no_read_is_stale() -> None:
    lease = ReadLease(CLOCK_DRIFT_PPM)
    played = [reads_after_the_cut(seed, CLOCK_RATES, lease) for seed in range(SEEDS)]
    assert sum(answered for answered, _ in played) > SEEDS
    assert [stale for _, stale in played] == [0] * SEEDS


def test_beyond_the_bound_reads_are_stale() -> None:
    """The clocks run apart further than the lease allows for."""
    assert any(reads_after_the_cut(seed, (0.5, 1.3), ReadLease(CLOCK_DRIFT_PPM))[1] for seed in range(SEEDS))
