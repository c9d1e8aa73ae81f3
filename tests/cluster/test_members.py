"""The life of a cluster whose members change: real processes, mutual TLS, the commands an operator types."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import aiohttp
import pytest

from tests.cli.conftest import Finished, Stele, alone
from tests.cluster.cluster import Cluster, Node, export_of, wait_until
from tests.cluster.joining import JoiningNode
from tests.cluster.workload import LEDGER, TABLE, prepare

__all__ = ["alone"]

WITHIN_S = 40.0
TIMEOUT = aiohttp.ClientTimeout(total=10)


@pytest.fixture
def stele(alone: Stele, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Stele:
    """A command, as an operator gives it, to any of the demo's nodes."""
    monkeypatch.setenv("STELE_ENDPOINTS", ",".join(node.http for node in cluster.nodes()))
    monkeypatch.setenv("STELE_OUTPUT", "json")
    return partial(alone, "cluster")


@pytest.fixture
def joining(cluster: Cluster) -> Iterator[list[JoiningNode]]:
    """Two nodes that may join, in zones of their own."""
    made = [JoiningNode(cluster, 3, "zone-d"), JoiningNode(cluster, 4, "zone-e")]
    try:
        yield made
    finally:
        for each in made:
            each.kill()


async def write(session: aiohttp.ClientSession, node: Node, key: str) -> tuple[int, str | None]:
    """Status, and which node did the work."""
    url = f"{node.http}/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/{key}"
    async with session.put(url, data=b'{"n":1}') as answer:
        await answer.read()
        return answer.status, answer.headers.get("X-Stele-Node")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.1)


async def same_journals(session: aiohttp.ClientSession, *nodes: Node) -> None:
    """These nodes come to have the same journal, byte by byte."""
    found: list[list[bytes]] = []

    async def fetch() -> bool:
        found[:] = [(await export_of(session, node, LEDGER))[1:] for node in nodes]
        return all(each == found[0] for each in found)

    await until(fetch)
    assert len(found[0]) > 1


def ids(status: Finished) -> list[str]:
    return [member["id"] for member in status.json["members"]]


@pytest.mark.timeout(240)
async def test_nodes_are_added_removed_and_replaced(
    cluster: Cluster, joining: list[JoiningNode], stele: Stele
) -> None:
    fourth, fifth = joining
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        for number in range(50):
            assert (await write(session, cluster.nodes()[0], f"k{number}"))[0] == 201
        await add_a_fourth(session, cluster, stele, fourth)
        await remove_the_leader(session, cluster, stele, fourth)
        await replace_a_dead_one(session, cluster, stele, fourth, fifth)
        await start_everything_again(session, cluster, stele, fourth, fifth)
    for each in joining:
        each.stop()


async def add_a_fourth(
    session: aiohttp.ClientSession, cluster: Cluster, stele: Stele, fourth: JoiningNode
) -> None:
    fourth.prepare()
    where = ("--zone", fourth.zone, "--raft", fourth.raft, "--http", fourth.http.removeprefix("http://"))
    # Added before it runs: it is a learner that is down, and counts for nothing.
    added = stele("add", fourth.id, *where)
    assert (added.code, added.json["voter"]) == (0, False), added.err
    early = stele("promote", fourth.id)
    assert (early.code, "nearly all of the log" in early.err) == (4, True), early.err
    fourth.start()
    promoted = stele("add", fourth.id, *where, "--promote")
    assert (promoted.code, promoted.json["voter"]) == (0, True), promoted.err
    assert f"{fourth.id} is a voter" in promoted.err
    assert (await write(session, fourth.node, "through-the-fourth"))[0] == 201
    await same_journals(session, *cluster.nodes(), fourth.node)
    status = stele("status")
    assert (ids(status), status.json["quorum"]) == (["n0", "n1", "n2", "n3"], 3)
    assert stele("status", "--lose", "zone-d").json["can_lose"] is True


async def remove_the_leader(
    session: aiohttp.ClientSession, cluster: Cluster, stele: Stele, fourth: JoiningNode
) -> None:
    """n1 leads and is removed; from then on it passes nothing on."""
    assert stele("transfer", "n1").json == {"leader": "n1"}
    removed = stele("remove", "n1")
    assert removed.code == 0, removed.err
    status = stele("status")
    assert (ids(status), status.code) == (["n0", "n2", "n3"], 0), status.err
    assert stele("remove", "n1").code == 3
    again = stele("add", "n1", "--zone", "z", "--raft", "127.0.0.1:1", "--http", "127.0.0.1:2")
    assert (again.code, "not used again" in again.err) == (4, True), again.err
    assert (await write(session, fourth.node, "after-the-removal"))[0] == 201
    gone = cluster.nodes()[1]

    async def refuses() -> bool:
        async with session.get(f"{gone.http}/readyz") as answer:
            return answer.status == 503 and (await write(session, gone, "through-n1"))[0] == 503

    await until(refuses)


async def replace_a_dead_one(
    session: aiohttp.ClientSession, cluster: Cluster, stele: Stele, fourth: JoiningNode, fifth: JoiningNode
) -> None:
    """n2 hangs: a zone cannot be lost any more, until a new node has taken its place."""
    fifth.prepare()
    fifth.start()
    assert stele("transfer", "n0").code == 0
    hung = cluster.nodes()[2]
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: stele("status", "--lose", "zone-a").code == 4, WITHIN_S, "n2 is not missed")
        why = stele("status", "--lose", "zone-a").json["why"]
        assert "n2" in why
        assert stele("status", "--lose", "zone-c").code == 0
        refused = stele("remove", fourth.id)
        assert (refused.code, "cannot be counted on" in refused.err) == (4, True), refused.err
        where = ("--raft", fifth.raft, "--http", fifth.http.removeprefix("http://"), "--zone", fifth.zone)
        replaced = stele("replace", "n2", fifth.id, *where)
        assert replaced.code == 0, replaced.err
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    status = stele("status")
    assert (ids(status), status.json.get("warnings")) == (["n0", "n3", "n4"], [])
    assert {zone["can_lose"] for zone in status.json["zones"].values()} == {True}
    assert (await write(session, fifth.node, "through-the-fifth"))[0] == 201
    await same_journals(session, cluster.nodes()[0], fourth.node, fifth.node)


async def start_everything_again(
    session: aiohttp.ClientSession, cluster: Cluster, stele: Stele, fourth: JoiningNode, fifth: JoiningNode
) -> None:
    """The demo supervises its own three nodes only, two of which are no members any more."""
    cluster.stop()
    fourth.kill()
    fourth.start()
    cluster.start()

    async def leads() -> bool:
        return stele("status").code == 0

    await until(leads)
    assert ids(stele("status")) == ["n0", "n3", "n4"]
    assert (await write(session, cluster.nodes()[0], "after-the-start"))[0] == 201
    await same_journals(session, cluster.nodes()[0], fourth.node, fifth.node)


@pytest.mark.timeout(180)
async def test_a_node_that_lost_its_disk_gets_its_vote_back(cluster: Cluster, stele: Stele) -> None:
    """It comes with an empty directory, so it is another server for the others until it has caught up."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        assert (await write(session, cluster.nodes()[0], "before"))[0] == 201
        before = stele("status").json["membership_index"]
        cluster.stop()
        shutil.rmtree(cluster.data / "n2" / "data")
        cluster.start()

        async def votes() -> bool:
            status = stele("status")
            return (
                status.code == 0
                and status.json["membership_index"] > before
                and all(member["voter"] and member["caught_up"] for member in status.json["members"])
            )

        await until(votes)
        assert (await write(session, cluster.nodes()[2], "after"))[0] == 201
        await same_journals(session, *cluster.nodes())
