"""A whole cluster: a member that was cut off for a while does not depose a leader that works."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chaos.simulation.faults import Weather
from chaos.simulation.world import World
from consensus.config import Timing
from consensus.election import Elections

SEEDS = 20
TIMING = Timing(heartbeat_s=0.05, election_s_min=0.3, election_s_max=0.6, leader_fallback_s=0.6, tick_s=0.02)
MILD = replace(
    Weather.drawn(random.Random(0)),
    loss=0.02,
    duplication=0.05,
    delay_s_max=0.02,
    late_rate=0.0,
    in_order=True,
    leases_alike=True,
    timing=TIMING,
)


def term_after_a_cut(seed: int, way: str) -> tuple[int, int]:
    """The leader's term before a follower is cut off and some time after it is back.

    No entries come meanwhile: with them, the follower's log alone would keep it from being elected.
    """
    world = World(seed, 3, weather=MILD)
    world.start()
    world.scheduler.advance(2.0)
    leader = world.leader()
    assert leader is not None
    term = leader.term
    alone = next(each for each in world.ids if each != leader.node_id)
    rest = [each for each in world.ids if each != alone]
    inbound, outbound = {(each, alone) for each in rest}, {(alone, each) for each in rest}
    cuts = {
        "both": inbound | outbound,
        "deaf": inbound,
        "deaf to the leader": {(leader.node_id, alone)},
        "mute": outbound,
    }
    world.block(cuts[way])
    world.scheduler.advance(10 * TIMING.election_s_max)
    world.block(())
    world.scheduler.advance(3 * TIMING.election_s_max)
    after = world.leader()
    assert after is not None
    return term, after.term


@pytest.mark.parametrize("way", ["both", "deaf", "deaf to the leader", "mute"])
def test_a_member_that_was_cut_off_does_not_depose_the_leader(way: str) -> None:
    for seed in range(SEEDS):
        before, after = term_after_a_cut(seed, way)
        assert before == after, f"seed {seed}, {way}"


def test_pre_votes_and_votes_that_ignore_the_leader_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elections, "_trusts_leader", lambda self: False)
    changed = [term_after_a_cut(seed, "deaf to the leader") for seed in range(3)]
    assert any(before != after for before, after in changed)
