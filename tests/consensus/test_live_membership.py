"""Membership on real replicas and real sockets: joining, leaving, replacing, and disks that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from consensus.config import Timing
from consensus.errors import ConsensusError, NotLeader, OutcomeUnknown
from consensus.membership import Membership, MembershipRefused
from consensus.replica import Replica
from tests.consensus.cluster import Cluster, until

TIMING = Timing(heartbeat_s=0.05, election_s_min=0.4, election_s_max=0.8, leader_fallback_s=0.8)


async def leading(cluster: Cluster) -> Replica:
    """The newest leader, whether or not those who wait to be added have heard of it."""
    await until(lambda: any(each.is_leader for each in cluster.replicas.values()), "there is a leader")
    return max(
        (each for each in cluster.replicas.values() if each.is_leader), key=lambda each: each.status().term
    )


async def on_leader(
    cluster: Cluster, change: Callable[[Replica], Coroutine[Any, Any, None]], *, done: str = "member-exists"
) -> None:
    """Makes a change on whoever leads, again and again until it is made; `done` says that it was before."""
    for _ in range(400):
        try:
            await change(await leading(cluster))
        except (NotLeader, OutcomeUnknown):
            await asyncio.sleep(0.01)
        except MembershipRefused as refused:
            if refused.reason == done:
                return
            if refused.reason not in ("change-in-progress", "not-ready", "not-caught-up"):
                raise
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("the change was never made")


async def write(cluster: Cluster, payload: bytes) -> None:
    """Until it is acknowledged."""
    for _ in range(400):
        try:
            await (await leading(cluster)).propose(payload)
        except ConsensusError:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("nothing is acknowledged any more")


def payloads(cluster: Cluster, node_id: str) -> set[bytes]:
    return {payload for _, payload in cluster.machines[node_id].applied}


async def join(cluster: Cluster, node_id: str, contact: str = "n0") -> None:
    await cluster.start(node_id, contact=contact)
    await on_leader(cluster, lambda leader: leader.add_learner(cluster.member(node_id)))
    await on_leader(cluster, lambda leader: leader.promote(node_id))


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_a_server_joins_catches_up_and_votes(tmp_path: Path, secured: bool) -> None:
    async with Cluster(tmp_path, size=1, joining=2, timing=TIMING, secured=secured) as cluster:
        heard: list[Membership] = []
        (await cluster.leader()).on_membership(heard.append)
        await write(cluster, b"before")
        for node_id in ("n1", "n2"):
            await join(cluster, node_id)
            await until(lambda: b"before" in payloads(cluster, node_id), "it has what was written before")  # noqa: B023
        assert {each.id for each in heard[-1].voters} == {"n0", "n1", "n2"}
        # They carry the cluster without the one that began it.
        await cluster.stop("n0")
        await write(cluster, b"after")
        assert cluster.fatal == []


async def test_every_member_is_replaced_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    """The leader too: it hands over, and whoever is removed hears of it and stops asking for votes."""
    async with Cluster(tmp_path, joining=3, timing=TIMING) as cluster:
        written: set[bytes] = set()
        stopped = False

        async def load() -> None:
            while not stopped:
                payload = b"%d" % len(written)
                await write(cluster, payload)
                written.add(payload)

        loading = asyncio.create_task(load())
        for old, new in (("n0", "n3"), ("n1", "n4"), ("n2", "n5")):
            await join(cluster, new, contact=old)
            await on_leader(cluster, lambda leader: leader.remove(old), done="member-unknown")  # noqa: B023
            await until(lambda: cluster.replicas[old].membership_committed, "it knows that it is out")  # noqa: B023
            assert cluster.replicas[old].membership.get(old) is None
            await cluster.stop(old)
        stopped = True
        await loading
        leader = await leading(cluster)
        assert leader.membership.retired == ("n0", "n1", "n2")
        with pytest.raises(MembershipRefused) as refused:
            await leader.add_learner(cluster.member("n0"))
        assert refused.value.reason == "member-retired"
        await until(
            lambda: all(written <= payloads(cluster, each) for each in ("n3", "n4", "n5")), "all have all"
        )
        assert cluster.fatal == []


async def test_a_lost_disk_comes_back_by_itself(tmp_path: Path) -> None:
    async with Cluster(tmp_path, timing=TIMING) as cluster:
        await write(cluster, b"first")
        for node_id in ("n1", "n0", "n2"):  # One of them leads.
            former = cluster.replicas[node_id].membership[node_id].incarnation
            await cluster.lose_disk(node_id)

            def is_back(node_id: str = node_id, former: bytes = former) -> bool:
                known = [each.membership.get(node_id) for each in cluster.replicas.values()]
                return all(
                    each is not None and each.voter and each.incarnation not in (b"", former)
                    for each in known
                )

            await until(is_back, f"{node_id} votes again, with another disk")
            await write(cluster, node_id.encode())
        await until(
            lambda: all(
                payloads(cluster, each) == {b"first", b"n0", b"n1", b"n2"} for each in cluster.machines
            ),
            "all have all",
        )
        assert cluster.fatal == []


async def test_two_lost_disks_of_three_do_not_make_a_new_cluster(tmp_path: Path) -> None:
    """Whoever still has the log does not vote for those who have none, and they cannot do without it."""
    async with Cluster(tmp_path, timing=TIMING) as cluster:
        await write(cluster, b"acknowledged")
        for node_id in ("n0", "n1", "n2"):
            await cluster.stop(node_id)
        for node_id in ("n0", "n1"):
            await cluster.lose_disk(node_id)
        survivor = await cluster.start("n2")
        await until(lambda: all(each.connected for each in survivor.status().members), "they meet")
        await asyncio.sleep(2 * TIMING.election_s_max)  # In which they would have elected one.
        assert [each.is_leader for each in cluster.replicas.values()] == [False] * 3
        assert payloads(cluster, "n0") == payloads(cluster, "n1") == set()
        assert cluster.fatal == []


async def test_a_member_that_was_away_lets_in_who_was_added_meanwhile(tmp_path: Path) -> None:
    """n2 knows n0 and n1 only; the leader is n3, which it has to let in before it can hear of it."""
    async with Cluster(tmp_path, joining=1, timing=TIMING) as cluster:
        await write(cluster, b"first")
        await cluster.stop("n2")
        await join(cluster, "n3")
        await on_leader(cluster, lambda leader: leader.remove("n0"), done="member-unknown")
        await cluster.stop("n0")
        leader = await leading(cluster)
        if leader is not cluster.replicas["n3"]:
            await leader.transfer_leadership("n3")
        await cluster.start("n2")
        await until(lambda: cluster.replicas["n2"].membership.get("n3") is not None, "n2 has caught up")
        await cluster.stop("n1")
        await write(cluster, b"last")
        assert payloads(cluster, "n3") == {b"first", b"last"}


async def test_a_removed_member_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    async with Cluster(tmp_path, timing=TIMING) as cluster:
        leader = await cluster.leader()
        gone = next(each for each in ("n0", "n1", "n2") if each != leader.leader_id)
        await cluster.stop(gone)
        await on_leader(cluster, lambda each: each.remove(gone))
        term = leader.status().term
        await cluster.start(gone)
        await until(lambda: leader.counters.connections_refused > 2, "it is refused")
        assert (leader.is_leader, leader.status().term) == (True, term)
        assert [each.id for each in leader.status().members] == sorted({"n0", "n1", "n2"} - {gone})
