"""How long a healed cluster may take to come back: what its members lack, at the rate that is set."""

from __future__ import annotations

import random
from dataclasses import replace

from chaos.simulation.faults import SmallLimits
from chaos.simulation.workload import Workload
from chaos.simulation.world import World
from consensus.config import CatchUp
from consensus.membership import Member
from storage.commands import encode_group
from tests.consensus.cores import Outcome
from tests.simulation.test_returns import MILD

RATE_BYTES_S = 14_000
REQUESTS = 150
JOINING = 2
LIMITS: dict[str, float] = {
    "LOG_RETAINED_ENTRIES": 2,
    "LOG_COMPACTION_STEP_ENTRIES": 2,
    "SNAPSHOT_CHUNK_SIZE_BYTES": 5_000,
    "SNAPSHOT_CHUNKS_IN_FLIGHT_MAX": 1,
}


def test_members_that_need_everything_get_the_time_that_it_takes() -> None:
    """Nothing is wrong but that they were added right before the faults ended."""
    catch_up = CatchUp(RATE_BYTES_S, log_retained_size_bytes=1_000)
    world = World(1, 3, weather=replace(MILD, loss=0.0, duplication=0.0, catch_up=catch_up))
    with SmallLimits(LIMITS):
        world.start()
        world.scheduler.advance(2.0)
        leader = world.leader()
        assert leader is not None
        workload, stamps = Workload(random.Random(1)), world.node(leader.node_id).stamps
        for _ in range(REQUESTS):
            leader.propose(encode_group(list(workload.request()(stamps))), Outcome())
            world.scheduler.advance(0.02)
        for _ in range(JOINING):
            number = len(world.nodes)
            leader.add_learner(Member(world.new_node().id, "zone", "host", number), Outcome())
            world.scheduler.advance(0.1)
        healed_at = world.scheduler.now
        world.recover()
    assert world.counts["installed"] == JOINING
    assert world.scheduler.now > healed_at + 20.0
