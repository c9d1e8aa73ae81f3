"""A node that the network cuts off for a minute: neither then nor when it is back does any client notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from chaos.faults.partitions import isolated
from chaos.lab.cluster import Cluster, zones_of
from chaos.lab.proxies import Proxies

CUT_S = 60.0
AFTERWARDS_S = 10.0
WRITERS_A_NODE = 4
WRITES_MIN = 1_000
TIMEOUT = aiohttp.ClientTimeout(total=10)
TABLE = "/v1/ledgers/registry/tables/vehicles"


class Load:
    """Writers that ask one node each, one request after the other; every answer must be a success."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._writers: list[asyncio.Task[None]] = []
        self._stopped = False
        self.written = 0
        self.failed: list[str] = []

    def begin(self, url: str, count: int) -> None:
        begun = len(self._writers)
        for number in range(begun, begun + count):
            self._writers.append(asyncio.create_task(self._write(f"{url}{TABLE}/documents/w{number}")))

    async def _write(self, url: str) -> None:
        while not self._stopped:
            try:
                async with self._session.put(url, data=b"{}") as answer:
                    self.written += 1
                    if answer.status not in (200, 201):
                        self.failed.append(f"{url}: {answer.status} {await answer.text()}")
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failed.append(f"{url}: {error!r}")

    async def end(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._writers)


async def term_of(cluster: Cluster, node_id: str) -> int:
    status = await cluster.status(node_id)
    assert status is not None
    term: int = status["term"]
    return term


async def cut_off_and_let_back(cluster: Cluster, session: aiohttp.ClientSession) -> None:
    leader = await cluster.leader()
    assert leader is not None
    for path in ("/v1/ledgers/registry", TABLE):
        async with session.put(f"{leader.http}{path}", data=b"{}") as answer:
            assert answer.status in (200, 201)
    away = next(node for node in cluster.nodes.values() if node is not leader)
    others = [node for node in cluster.nodes.values() if node is not away]
    term = await term_of(cluster, leader.id)
    load = Load(session)
    for node in others:
        load.begin(node.http, WRITERS_A_NODE)
    await cluster.network.block(isolated(away.id, cluster.nodes, clients=False))
    await asyncio.sleep(CUT_S)
    meanwhile = load.written
    await cluster.network.block(())
    await cluster.until_whole()
    load.begin(away.http, WRITERS_A_NODE)  # Clients come back to it, too.
    await asyncio.sleep(AFTERWARDS_S)
    await load.end()
    print(f"{meanwhile:,} writes without {away.id}, {load.written - meanwhile:,} after; {load.failed}")
    assert load.failed == []
    assert meanwhile > WRITES_MIN
    assert await term_of(cluster, leader.id) == term


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_node_cut_off_for_a_minute_under_load_comes_back_without_one_failed_request(
    tmp_path: Path,
) -> None:
    zones = zones_of(3, 3)
    cluster = Cluster(tmp_path, zones, Proxies(zones))
    await cluster.start()
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            await cut_off_and_let_back(cluster, session)
    finally:
        await cluster.stop()
