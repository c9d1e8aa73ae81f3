"""A real data set goes in through the commands, and comes out verified on every node."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from bench import flights
from tests.cluster.cluster import Cluster, Node, converged

FLIGHTS = 336_776
COMMAND_TIMEOUT_S = 500.0


def command(name: str, *arguments: str, endpoints: str, home: Path) -> str:
    """What a command prints; it must end with exit code 0."""
    finished = subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        env={**os.environ, "STELE_ENDPOINTS": endpoints, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return finished.stdout


async def journal_digest(session: aiohttp.ClientSession, node: Node) -> bytes:
    """Of every byte of the journal as this one node has it, but for the line that heads the export."""
    digest = hashlib.sha256()
    timeout = aiohttp.ClientTimeout(total=COMMAND_TIMEOUT_S)
    url = f"{node.http}/v1/ledgers/nyc/export?consistency=snapshot"
    async with session.get(url, timeout=timeout) as answer:
        assert answer.status == 200
        await answer.content.readuntil(b"\n")
        async for chunk in answer.content.iter_chunked(1 << 16):
            digest.update(chunk)
    return digest.digest()


@pytest.mark.slow
async def test_flights_are_loaded_verified_and_the_same_on_every_node(tmp_path: Path) -> None:
    lines = tmp_path / "flights.ndjson"
    lines.write_text("".join(flights.bulk_lines(FLIGHTS)), encoding="utf-8")
    cluster = Cluster(tmp_path)
    cluster.start()
    try:
        endpoints = ",".join(node.http for node in cluster.nodes())

        def stele(*arguments: str) -> str:
            return command("stele", *arguments, endpoints=endpoints, home=tmp_path)

        stele("ledger", "create", "nyc")
        stele("table", "create", "nyc", "flights")
        loaded = stele("bulk", "nyc", "flights", str(lines), "--output", "json")
        assert json.loads(loaded)["accepted"] == FLIGHTS
        verified = stele("verify", "nyc", "--key", cluster.verifier_key, "--output", "json")
        # One revision more than flights: that of the catalogue, which made the table.
        assert json.loads(verified)["revisions"] == FLIGHTS + 1

        async with aiohttp.ClientSession() as session:
            await converged(session, cluster, "nyc")
            digests = [await journal_digest(session, node) for node in cluster.nodes()]
        assert len(set(digests)) == 1
        cluster.stop()
        for store in cluster.stores():
            command("steled", "fsck", str(store), endpoints="", home=tmp_path)
    finally:
        cluster.kill_everything()
