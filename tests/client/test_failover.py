"""The client keeps its promises while nodes die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from stele.client import Acknowledgement, BulkLine, Client, TrustPolicy
from tests.client.conftest import url_of
from tests.cluster.cluster import Cluster, leader_of

LINES = 30_000
KILLS = 2


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    running.start()
    try:
        yield running
        running.stop()
    finally:
        running.kill_everything()


async def test_a_load_and_verified_reads_survive_killed_leaders(three: Cluster) -> None:
    """Every line is there once, in version 0, and what is read in between is verified."""
    acknowledged = 0
    forward = asyncio.Event()

    def watch(acknowledgements: list[Acknowledgement]) -> None:
        nonlocal acknowledged
        acknowledged = acknowledgements[-1].line
        forward.set()

    killed = [asyncio.Event() for _ in range(KILLS)]

    async def lines() -> AsyncIterator[BulkLine]:
        """However fast the cluster is, the load is not over before the leaders are killed."""
        for number in range(LINES):
            if number and number % (LINES // (KILLS + 1)) == 0:
                await killed[number // (LINES // (KILLS + 1)) - 1].wait()
            yield BulkLine(key=f"k{number:06d}", data={"n": number})

    async with (
        aiohttp.ClientSession() as session,
        Client(url_of(three), trust=TrustPolicy(three.verifier_key), timeout_s=60) as client,
    ):
        await client.create_ledger("load")
        ledger = client.ledger("load")
        await ledger.create_table("t")
        load = asyncio.create_task(ledger.bulk(lines(), table="t", on_acknowledged=watch))
        for kill in range(KILLS):
            while acknowledged < LINES // (KILLS + 2) + kill * LINES // (KILLS + 1):
                forward.clear()
                await asyncio.wait_for(forward.wait(), 30)
            assert not load.done()
            three.kill(await leader_of(session, three))
            killed[kill].set()
            await ledger.put("t", f"other{kill}", {"kill": kill})
            assert (await ledger.get("t", f"other{kill}")).version == 0
            assert (await ledger.get("t", "k000000")).data == {"n": 0}
        report = await load
        assert (report.accepted, report.refused) == (LINES, 0)
        assert report.reconnections >= 1
        documents = [document async for document in ledger.scan("t", prefix="k")]
        assert [document.data["n"] for document in documents] == list(range(LINES))
        assert {document.version for document in documents} == {0}
