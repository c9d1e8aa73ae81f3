"""Replicas on real sockets and real disks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import uvloop

from consensus import limits
from consensus.config import Peer, ReplicaConfig, Role, Timing
from consensus.errors import NotLeader, OutcomeUnknown, ReadFailed, ReplicaStopped
from consensus.replica import Replica
from tests.consensus.cluster import Cluster, until
from tests.consensus.rocks import Recorder, RocksStore


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as running:
        yield running
        assert running.fatal == []


async def test_a_proposal_is_applied_everywhere_in_one_order(cluster: Cluster) -> None:
    leader = await cluster.leader()
    results = await asyncio.gather(*(leader.propose(b"%d" % i) for i in range(500)))
    assert results == list(range(1, 501))
    await until(
        lambda: all(len(machine.applied) == 500 for machine in cluster.machines.values()), "all have applied"
    )
    assert len({tuple(machine.applied) for machine in cluster.machines.values()}) == 1


async def test_a_follower_refuses_proposals_and_reads_and_names_the_leader(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for follower in cluster.others(leader):
        with pytest.raises(NotLeader) as refused:
            follower.propose(b"x")
        assert refused.value.leader_id == leader.status().node_id
        with pytest.raises(NotLeader):
            await follower.read_barrier()


async def test_a_read_barrier_shows_what_was_answered_before(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.propose(b"x")
    await asyncio.gather(*(leader.read_barrier() for _ in range(100)))
    assert cluster.machines[leader.status().node_id].applied[-1][1] == b"x"


async def test_status_shows_every_member(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.propose(b"x")
    last_index = leader.status().last_index
    await until(
        lambda: all(each.match_index == last_index for each in leader.status().members), "all have it"
    )
    status = leader.status()
    assert (status.role, status.leader_id) == (Role.LEADER, status.node_id)
    assert status.commit_index == status.applied_index == last_index
    assert [(each.id, each.zone) for each in status.members] == [("n0", "z0"), ("n1", "z1"), ("n2", "z2")]
    await until(lambda: all(each.connected for each in leader.status().members), "all are connected")
    follower = cluster.others(leader)[0].status()
    assert (follower.role, follower.term) == (Role.FOLLOWER, status.term)
    assert all(each.match_index is None for each in follower.members)


async def test_work_goes_on_without_the_leader_and_it_comes_back(cluster: Cluster) -> None:
    first = await cluster.leader()
    first_id = first.status().node_id
    await first.propose(b"before")
    await cluster.stop(first_id)
    second = await cluster.leader()
    assert second.status().term > 1
    await asyncio.gather(*(second.propose(b"%d" % i) for i in range(50)))
    await cluster.start(first_id)
    await until(lambda: len(cluster.machines[first_id].applied) == 51, "the old leader has caught up")
    assert len({tuple(machine.applied) for machine in cluster.machines.values()}) == 1


async def test_a_leader_whose_process_ends_is_replaced_long_before_the_election_timeout(
    tmp_path: Path,
) -> None:
    # So long that the test would fail if anybody waited for it.
    timing = Timing(election_s_min=60.0, election_s_max=120.0, leader_fallback_s=60.0)
    async with Cluster(tmp_path, timing=timing) as cluster:
        first = await cluster.leader()
        await first.propose(b"before")
        await cluster.stop(first.status().node_id)
        second = await cluster.leader()
        assert await second.propose(b"after") == 2
        assert cluster.fatal == []


async def test_a_member_that_comes_back_is_dialled_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the others would wait by now before they tried it again."""
    leader = await cluster.leader()
    returning = next(each for each in cluster.replicas if each != leader.status().node_id)
    monkeypatch.setattr(limits, "RECONNECT_DELAY_S_MIN", 3600.0)
    monkeypatch.setattr(limits, "RECONNECT_DELAY_S_MAX", 3600.0)
    await cluster.stop(returning)
    await cluster.start(returning)
    await leader.propose(b"news")
    await until(
        lambda: any(payload == b"news" for _, payload in cluster.machines[returning].applied),
        "it hears of the entry",
    )


async def test_a_leader_that_is_cut_off_steps_down_and_says_that_it_does_not_know(cluster: Cluster) -> None:
    first = await cluster.leader()
    seen: list[bool] = []
    first.on_leadership(seen.append)
    for follower in cluster.others(first):
        await cluster.stop(follower.status().node_id)
    proposal = first.propose(b"never replicated")
    read = asyncio.ensure_future(first.read_barrier())
    with pytest.raises(OutcomeUnknown):
        await proposal
    with pytest.raises(ReadFailed):
        await read
    assert not first.is_leader
    assert first.leader_id is None
    await until(lambda: seen == [False], "the callback was called")


async def test_everything_stopped_and_started_again_is_all_there(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        await asyncio.gather(*(leader.propose(b"%d" % i) for i in range(100)))
        await until(lambda: all(len(m.applied) == 100 for m in cluster.machines.values()), "all applied")
        term = leader.status().term
        for node_id in list(cluster.replicas):
            await cluster.stop(node_id)
        for node_id in cluster.machines:
            await cluster.start(node_id)
        leader = await cluster.leader()
        assert leader.status().term > term
        assert await leader.propose(b"after") == 101


async def test_a_stopped_replica_says_so(cluster: Cluster) -> None:
    leader = await cluster.leader()
    pending = leader.propose(b"x")
    await cluster.stop(leader.status().node_id)
    with pytest.raises(OutcomeUnknown):
        await pending
    with pytest.raises(ReplicaStopped):
        leader.propose(b"y")
    assert not leader.is_leader


async def test_a_proposal_whose_caller_gave_up_harms_nobody(cluster: Cluster) -> None:
    leader = await cluster.leader()
    leader.propose(b"given up").cancel()
    assert await leader.propose(b"x") == 2


class FailingStore(RocksStore):
    """A disk that fails when told to."""

    failing = False

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]]
    ) -> None:
        if self.failing:
            raise OSError("input/output error")
        super().write(puts, delete_ranges)


async def test_a_disk_error_stops_the_member_at_once_and_the_others_go_on(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        victim_id = cluster.others(leader)[0].status().node_id
        await cluster.stop(victim_id)
        store = FailingStore(tmp_path / "failing")
        await cluster.start(victim_id, log_store=store)
        await leader.propose(b"x")
        store.failing = True
        await leader.propose(b"y")
        await until(lambda: cluster.fatal, "it has stopped")
        [(node_id, error)] = cluster.fatal
        assert (node_id, str(error)) == (victim_id, "input/output error")
        assert await leader.propose(b"z") == 3
        assert not cluster.replicas[victim_id].is_leader
        store.close()


async def test_a_cluster_of_one(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        leader = await cluster.leader()
        assert await leader.propose(b"x") == 1
        await leader.read_barrier()


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def work() -> None:
        async with Cluster(tmp_path) as cluster:
            leader = await cluster.leader()
            assert await asyncio.gather(*(leader.propose(b"x") for _ in range(50))) == list(range(1, 51))
            await cluster.stop(leader.status().node_id)
            await (await cluster.leader()).read_barrier()

    uvloop.run(work())


# Configuration.


def test_timing_that_cannot_work_is_refused() -> None:
    for wrong in (
        {"tick_s": 0.0},
        {"tick_s": 0.2},
        {"heartbeat_s": 0.4},
        {"election_s_min": 2.0},
        {"leader_fallback_s": 0.9},
        {"hastened_s_min": 0.15},
        {"hastened_s_max": 1.1},
    ):
        with pytest.raises(ValueError):
            Timing(**wrong)


def test_a_cluster_that_cannot_work_is_refused() -> None:
    a, b = Peer("a", "127.0.0.1", 1), Peer("b", "127.0.0.1", 2)
    for node_id, peers in (("c", (a, b)), ("a", (a, a)), ("", (Peer("", "127.0.0.1", 1),))):
        with pytest.raises(ValueError):
            ReplicaConfig("test", node_id, peers)


async def test_a_replica_that_has_not_started_says_so(tmp_path: Path) -> None:
    store = RocksStore(tmp_path)
    config = ReplicaConfig("test", "a", (Peer("a", "127.0.0.1", 1),))
    replica = Replica(config, store, Recorder(), lambda error: None)
    with pytest.raises(ReplicaStopped):
        replica.propose(b"x")
    with pytest.raises(ReplicaStopped):
        replica.status()
    await replica.stop()
    store.close()
