"""kill -9 of any node at any moment, and of all at once, with load running: nothing told is untrue."""

from __future__ import annotations

import asyncio
import json
import random

import aiohttp
import pytest

from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from storage import fsck
from tests.cluster.cluster import Cluster, converged, export_of, leader_of
from tests.cluster.workload import LEDGER, TABLE, Told, prepare, writer

KILLS = 20
WRITERS = 8
WRITES_BETWEEN_KILLS = 40


async def acknowledged(told: Told, count: int, cluster: Cluster, tasks: list[asyncio.Task[None]]) -> None:
    """Waits until `count` more writes were acknowledged, or a writer failed."""
    wanted = len(told.acknowledged) + count
    async with asyncio.timeout(60):
        while len(told.acknowledged) < wanted:
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)


async def kill_under_load(session: aiohttp.ClientSession, cluster: Cluster, seed: int) -> Told:
    """Twenty kills: one node, two, or all at once, never waiting for a quiet moment."""
    chosen = random.Random(seed)
    told, stopped = Told(), asyncio.Event()
    tasks = [asyncio.create_task(writer(session, cluster, f"w{n}", told, stopped)) for n in range(WRITERS)]
    for kill in range(KILLS):
        await acknowledged(told, chosen.randrange(WRITES_BETWEEN_KILLS), cluster, tasks)
        # Every fifth kill takes all nodes at once; the others the leader, a random node, or a majority.
        count = 3 if kill % 5 == 4 else chosen.choice([1, 1, 1, 2])
        for node in chosen.sample(cluster.nodes(), count):
            cluster.kill(node)
    await acknowledged(told, WRITES_BETWEEN_KILLS, cluster, tasks)
    stopped.set()
    await asyncio.gather(*tasks)
    return told


async def check_history(session: aiohttp.ClientSession, cluster: Cluster, told: Told) -> None:
    """All three journals are the same bytes, verify, and contain what the clients were told."""
    await converged(session, cluster, LEDGER)
    exports = [await export_of(session, node, LEDGER) for node in cluster.nodes()]
    assert exports[0][1:] == exports[1][1:] == exports[2][1:]
    leader = await leader_of(session, cluster)
    async with session.get(f"{leader.http}/v1/ledgers/{LEDGER}") as answer:
        verifier_key = (await answer.json())["verifier_key"]
    report = verify_export(exports[0], VerifierKey.parse(verifier_key))
    found: dict[str, list[int]] = {}
    for line in exports[0][1:]:
        block = json.loads(line)
        for revision in block["revisions"]:
            if revision["leaf"]["table"].startswith(f"{TABLE}@"):
                found.setdefault(revision["leaf"]["key"], []).append(block["header"]["seq"])
    assert report.blocks == len(exports[0]) - 1
    missing = {key: seq for key, seq in told.acknowledged.items() if found.get(key) != [seq]}
    assert not missing, f"acknowledged, but absent, moved or doubled: {dict(list(missing.items())[:5])}"
    present = told.refused & found.keys()
    assert not present, f"refused, but present: {sorted(present)[:5]}"
    assert found.keys() == told.acknowledged.keys(), "a write that nobody was told of is in the journal"


@pytest.mark.timeout(420)
async def test_no_kill_loses_an_acknowledged_write(cluster: Cluster) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await prepare(session, cluster)
        told = await kill_under_load(session, cluster, seed)
        print(f"{len(told.acknowledged)} acknowledged, {len(told.refused)} refused, {told.repeats} repeats")
        await check_history(session, cluster, told)
    stores = cluster.stores()
    cluster.stop()
    for store in stores:
        assert fsck.check(store).findings == []
