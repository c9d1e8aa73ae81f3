"""What a client may rely on when the leader dies."""

from __future__ import annotations

import aiohttp

from tests.cluster.cluster import Cluster, converged, leader_of
from tests.cluster.workload import LEDGER, TABLE, Told, prepare, settle

TIMEOUT = aiohttp.ClientTimeout(total=5)


async def test_an_idempotency_key_has_one_answer_through_a_leader_change(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        told = Told()
        body = b'{"owner":"Ada"}'
        status, first = await settle(session, cluster, "car-1", {}, body, told)
        assert status == 201
        old = await leader_of(session, cluster)
        cluster.kill(old)
        status, second = await settle(session, cluster, "car-1", {}, body, told)
        new = await leader_of(session, cluster)
        assert (status, second) == (201, first)
        for node in cluster.nodes():
            cluster.kill(node)
        status, third = await settle(session, cluster, "car-1", {}, body, told)
        assert (status, third) == (201, first)
        assert (old.pid, old.id) != (new.pid, new.id)
        url = f"{cluster.nodes()[0].http}/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/car-1/history"
        async with session.get(url) as answer:
            assert [r["version"] for r in (await answer.json())["revisions"]] == [0]


async def test_every_node_takes_every_request(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        for number, node in enumerate(cluster.nodes()):
            url = f"{node.http}/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/key"
            async with session.put(url, data=b'{"n":%d}' % number) as answer:
                assert (await answer.json())["version"] == number
            for reader in cluster.nodes():
                async with session.get(url.replace(node.http, reader.http)) as answer:
                    read = await answer.json()
                    assert (read["version"], read["data"]) == (number, {"n": number}), "a stale strong read"
        await converged(session, cluster, LEDGER)


async def test_a_node_that_was_away_catches_up_by_itself(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        leader = await leader_of(session, cluster)
        away = next(node for node in cluster.nodes() if node.id != leader.id)
        cluster.kill(away)
        url = f"{leader.http}/v1/ledgers/{LEDGER}/bulk?table={TABLE}"
        lines = b"".join(b'{"key":"k%d","data":{"n":%d}}\n' % (n, n) for n in range(5_000))
        async with session.post(url, data=lines) as answer:
            last = (await answer.read()).splitlines()[-1]
            assert last == b'{"done":true,"accepted":5000,"refused":0}'
        assert await converged(session, cluster, LEDGER) > 2
