"""Erasure on three real nodes: afterwards no byte of any of their files holds what was erased."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from storage import fsck
from tests.cluster.cluster import Cluster, converged, export_of, leader_of
from tests.cluster.members import LEDGER as BOOKS
from tests.cluster.members import Members

LEDGER = "erasing"
BASE = f"/v1/ledgers/{LEDGER}"
DOCUMENTS = f"{BASE}/tables/people/documents"
COMPLETE_WITHIN_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, 3, "--allow-erasure")
    made.start()
    try:
        yield made
    finally:
        made.kill_everything()


def unique_text() -> str:
    """72 bytes that RocksDB's compression cannot break up: no four of them stand anywhere else."""
    return "".join(chr(0x4E00 + secrets.randbelow(20_000)) for _ in range(24))


def holding(cluster: Cluster, what: bytes) -> dict[str, list[str]]:
    """By node, the files below its directory that hold these bytes."""
    found: dict[str, list[str]] = {}
    for node in cluster.nodes():
        for path in sorted((cluster.data / node.id).rglob("*")):
            try:
                if path.is_file() and what in path.read_bytes():
                    found.setdefault(node.id, []).append(path.name)
            except FileNotFoundError:
                continue  # RocksDB removed it while we looked.
    return found


async def ask(session: aiohttp.ClientSession, method: str, url: str, body: Any = None, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    async with session.request(method, url, data=data, headers=headers) as answer:
        text = await answer.read()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text) if answer.content_type == "application/json" else text


async def write_secrets(session: aiohttp.ClientSession, http: str, secret: str, kept: str) -> None:
    """The same content by every way in: put, update, transaction, bulk, and a repeated request."""
    await ask(session, "PUT", http + BASE)
    await ask(session, "PUT", f"{http}{BASE}/tables/people")
    for n in range(3):
        await ask(session, "PUT", f"{http}{DOCUMENTS}/erika", {"n": n, "address": secret})
    for _ in range(2):
        await ask(
            session, "PUT", f"{http}{DOCUMENTS}/erika", {"address": secret}, **{"Idempotency-Key": "again"}
        )
    operation = {"op": "put", "table": "people", "key": "erika", "data": {"address": secret}}
    await ask(session, "POST", f"{http}{BASE}/transactions", {"operations": [operation]})
    line = json.dumps({"key": "erika", "data": {"address": secret}}).encode() + b"\n"
    await ask(session, "POST", f"{http}{BASE}/bulk?table=people", line)
    line = json.dumps({"key": "max", "data": {"address": kept}}).encode() + b"\n"
    await ask(session, "POST", f"{http}{BASE}/bulk?table=people", line * 200)


async def until_complete(session: aiohttp.ClientSession, url: str) -> Any:
    deadline = time.monotonic() + COMPLETE_WITHIN_S
    while True:
        state = await ask(session, "GET", url)
        if state["complete"]:
            return state
        assert time.monotonic() < deadline, state
        await asyncio.sleep(0.1)


async def test_no_file_of_any_node_holds_what_was_erased(cluster: Cluster) -> None:
    secret = unique_text()
    async with aiohttp.ClientSession() as session:
        leader = await leader_of(session, cluster)
        kept = unique_text()
        await write_secrets(session, leader.http, secret, kept)
        await converged(session, cluster, LEDGER)
        blocks = (await ask(session, "GET", f"{leader.http}{BASE}/blocks?limit=20"))["blocks"]
        revisions = [
            each for block in blocks for each in block["revisions"] if each["leaf"]["key"] == "erika"
        ]
        salts = [bytes.fromhex(each["salt"]) for each in revisions]
        assert len(salts) == 6
        proof = await ask(session, "GET", f"{leader.http}{DOCUMENTS}/erika?proof=true")
        for what in (secret.encode(), *salts):
            assert set(holding(cluster, what)) == {"n0", "n1", "n2"}

        body = {"table": "people", "key": "erika", "versions": "all", "reason": "asked for"}
        follower = next(node for node in cluster.nodes() if node.id != leader.id)
        made = await ask(session, "POST", f"{follower.http}{BASE}/erasures", body)
        assert made["versions"] == [[0, 5]]
        seq = made["seq"]
        for node in cluster.nodes():
            state = await until_complete(session, f"{node.http}{BASE}/erasures/{seq}")
            assert [(each["id"], each["complete"]) for each in state["replicas"]] == [
                (f"n{number}", True) for number in range(3)
            ]
        for what in (secret.encode(), *salts):
            assert holding(cluster, what) == {}
        assert set(holding(cluster, kept.encode())) == {"n0", "n1", "n2"}

        key = VerifierKey.parse((await ask(session, "GET", leader.http + BASE))["verifier_key"])
        for node in cluster.nodes():
            report = verify_export(await export_of(session, node, LEDGER), key)
            assert report.erased == 6
            assert report.blocks > seq
        place = proof["proof"]["document"]["revision"]["place"]
        size = proof["proof"]["checkpoint"].split("\n")[1]
        path = f"{leader.http}{BASE}/proofs/inclusion?seq={proof['seq']}&size={size}"
        found = (await ask(session, "GET", path))["path"]
        assert "".join(found) == base64.b64decode(place["path"]).hex()
    cluster.stop()
    for store in cluster.stores():
        assert fsck.check(store).findings == []
        assert all(secret.encode() not in path.read_bytes() for path in store.rglob("*") if path.is_file())


@pytest.mark.slow
async def test_a_node_that_was_down_completes_later(cluster: Cluster) -> None:
    """Until every replica is clean, the answer does not say that it is."""
    secret = unique_text()
    async with aiohttp.ClientSession() as session:
        leader = await leader_of(session, cluster)
        await write_secrets(session, leader.http, secret, "kept")
        await converged(session, cluster, LEDGER)
        victim = next(node for node in cluster.nodes() if node.id != leader.id)
        cluster.kill(victim)
        body = {"table": "people", "key": "erika", "versions": "all", "reason": "asked for"}
        made = await ask(session, "POST", f"{leader.http}{BASE}/erasures", body)
        seen = {each["id"]: each for each in made["replicas"]}
        assert not made["complete"]
        assert seen[victim.id]["waiting_for"] in ("answer", "block")
        # The supervisor starts it again.
        await until_complete(session, f"{leader.http}{BASE}/erasures/{made['seq']}")
        assert holding(cluster, secret.encode()) == {}
    cluster.stop()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_that_comes_back_by_snapshot_after_an_erasure(tmp_path: Path) -> None:
    """It had the content, was down for the erasure, and gets a database in the place of its own."""
    secret = unique_text()
    members = Members(tmp_path, log_retained_mib=1, allow_erasure=True)
    members.start()
    try:
        leader = members.leader()
        members.create(leader)
        document = f"/v1/ledgers/{BOOKS}/tables/cars/documents/erika"
        assert members.ask(leader, "PUT", document, json.dumps({"address": secret}).encode())[0] == 201
        down = next(each for each in ("n0", "n1", "n2") if each != leader)
        members.until(lambda: members.caught_up(down, leader), "everybody has it")
        members.kill(down)
        body = {"table": "cars", "key": "erika", "versions": "all", "reason": "asked for"}
        path = f"/v1/ledgers/{BOOKS}/erasures"
        status, made = members.ask(leader, "POST", path, json.dumps(body).encode())
        assert (status, made["complete"]) == (202, False)
        members.load(leader, "meanwhile", 6)
        members.until(lambda: members.first_index(leader) > made["seq"] + 8, "the log is cut")
        members.start(down)
        erasure = f"{path}/{made['seq']}"
        members.until(lambda: members.ask(leader, "GET", erasure)[1]["complete"], "all are done", 120)
        assert "installing a snapshot" in members.log(down)
        files = [each for node_id in members.http for each in (tmp_path / node_id).rglob("*")]
        assert [each for each in files if each.is_file() and secret.encode() in each.read_bytes()] == []
    finally:
        members.stop_everything()
