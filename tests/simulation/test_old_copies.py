"""A disk that is restored from an old copy: the leader to which it acknowledged more takes its vote, brings
it up to date and gives it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.simulation.client import Client
from chaos.simulation.disk import RAFT, STATE
from chaos.simulation.workload import Workload
from chaos.simulation.world import World
from consensus.config import CatchUp
from tests.simulation.test_returns import MILD

SEEDS = 4
QUICK = replace(MILD, loss=0.0, request_interval_s=0.02, writers=4)


def restored(seed: int, retained_size_bytes: int) -> World:
    """A follower's disk is put back to what it was two seconds ago, under load; all must be well again."""
    weather = replace(QUICK, catch_up=CatchUp(log_retained_size_bytes=retained_size_bytes))
    world = World(seed, 3, weather=weather)
    world.start()
    world.scheduler.advance(2.0)
    workload = Workload(world.scheduler.rng)
    clients = [Client(f"client{number}", world, workload, weather, reads_only=False) for number in range(4)]
    world.scheduler.advance(1.0)
    leader = world.leader()
    assert leader is not None
    node = next(node for node in world.nodes if node.core is not leader)
    copy = node.disk.families[STATE].copy(), node.disk.families[RAFT].copy()
    world.scheduler.advance(2.0)
    # Nothing that it has said is still under way when its disk is changed.
    world.block(
        {pair for each in world.ids if each != node.id for pair in ((each, node.id), (node.id, each))}
    )
    world.scheduler.advance(0.1)
    node.crash(power_lost=True)
    node.disk.replace(copy)
    world.block(())
    world.scheduler.advance(6.0)
    for client in clients:
        client.stopped = True
    world.recover()
    return world


@pytest.mark.parametrize("retained_size_bytes", [1_000, 1_000_000], ids=["by snapshot", "from the log"])
def test_a_disk_restored_from_an_old_copy_loses_its_vote_until_it_has_caught_up(
    retained_size_bytes: int,
) -> None:
    for seed in range(SEEDS):
        world = restored(seed, retained_size_bytes)
        leader = world.leader()
        assert leader is not None
        assert [(each.voter, each.returning) for each in leader.membership.members] == [(True, False)] * 3
        # The first membership, the vote taken, the vote given back.
        assert world.promises.memberships == 3, f"seed {seed}"
