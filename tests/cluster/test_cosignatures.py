"""Three real nodes over mutual TLS: every replica cosigns what it has applied, and nobody waits for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from stele.verify.checkpoint import parse_checkpoint_text
from stele.verify.errors import Unsigned
from stele.verify.note import COSIGNATURE_V1, ML_DSA_44, VerifierKey, open_note, split_note
from tests.cluster.cluster import Cluster, Node, wait_until
from tests.cluster.workload import LEDGER, TABLE, prepare

TIMEOUT = aiohttp.ClientTimeout(total=20)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests here: what each does to it is over when it ends."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.start()
    try:
        yield made
        made.stop()
    finally:
        made.kill_everything()


async def text_of(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, await answer.text()


async def keys_of(session: aiohttp.ClientSession, node: Node) -> dict[str, Any]:
    status, body = await text_of(session, f"{node.http}/v1/cluster/keys")
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


async def replica_keys(session: aiohttp.ClientSession, node: Node) -> dict[str, VerifierKey]:
    """The active Ed25519 key of each replica."""
    replicas = (await keys_of(session, node))["replicas"]
    return {
        each["node"]: VerifierKey.parse(each["verifier_keys"][0])
        for each in replicas
        if each["state"] == "active"
    }


async def log_key(session: aiohttp.ClientSession, node: Node) -> VerifierKey:
    status, body = await text_of(session, f"{node.http}/v1/ledgers/{LEDGER}")
    assert status == 200, body
    return VerifierKey.parse(json.loads(body)["verifier_key"])


async def write(session: aiohttp.ClientSession, node: Node, key: str) -> int:
    """Retried until it is committed; its block."""
    url = f"{node.http}/v1/ledgers/{LEDGER}/tables/{TABLE}/documents/{key}"
    deadline = time.monotonic() + 20
    while True:
        async with session.put(url, data=b'{"n":1}') as answer:
            if answer.status < 300:
                return int((await answer.json())["seq"])
            assert answer.status == 503, await answer.text()
        assert time.monotonic() < deadline, "not committed"


async def cosigned(session: aiohttp.ClientSession, node: Node, seq: int, required: int) -> str:
    """A checkpoint that covers block `seq` with so many cosignatures."""
    url = f"{node.http}/v1/ledgers/{LEDGER}/checkpoint?cosignatures={required}"
    deadline = time.monotonic() + 20
    while True:
        status, note = await text_of(session, url)
        if status == 200 and parse_checkpoint_text(split_note(note)[0]).size > seq:
            return note
        assert status in (200, 503), note
        assert time.monotonic() < deadline, f"no checkpoint of block {seq} with {required}: {status} {note}"


@contextmanager
def paused(node: Node) -> Iterator[None]:
    """The process stands still: to the others it is gone, and the supervisor does not start it again."""
    os.kill(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


async def other_than_leader(session: aiohttp.ClientSession, cluster: Cluster) -> tuple[Node, Node]:
    """(a follower, the leader)."""
    nodes = {node.id: node for node in cluster.nodes()}
    _, body = await text_of(session, f"{cluster.nodes()[0].http}/v1/cluster")
    leader = nodes[json.loads(body)["leader"]]
    return next(node for node in nodes.values() if node is not leader), leader


async def test_every_replica_cosigns_and_one_that_is_away_comes_back(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        away, leader = await other_than_leader(session, cluster)
        seq = await write(session, leader, "first")
        keys = await replica_keys(session, leader)
        assert sorted(keys) == ["n0", "n1", "n2"]
        trusted = [await log_key(session, leader), *keys.values()]
        opened = open_note(await cosigned(session, leader, seq, 3), trusted)
        assert opened.signatures_by == tuple(trusted)  # The log first.
        assert all(each.timestamp_s is not None for each in opened.signatures[1:])

        with paused(away):
            before = time.monotonic()
            seqs = [await write(session, leader, f"without {n}") for n in range(50)]
            # Nobody waits for a cosignature: 50 writes in the time that a single question may wait for one.
            assert time.monotonic() - before < 5
            two = open_note(await cosigned(session, leader, seqs[-1], 2), trusted)
            assert keys[away.id] not in two.signatures_by
            status, problem = await text_of(
                session, f"{leader.http}/v1/ledgers/{LEDGER}/checkpoint?cosignatures=3"
            )
            assert (status, json.loads(problem)["type"]) == (503, "urn:stele:problem:not-cosigned")
        three = open_note(await cosigned(session, leader, seqs[-1], 3), trusted)
        assert keys[away.id] in three.signatures_by
        await check_that_all_nodes_keep(
            session, cluster, parse_checkpoint_text(three.text).size, list(keys.values())
        )


async def check_that_all_nodes_keep(
    session: aiohttp.ClientSession, cluster: Cluster, size: int, keys: list[VerifierKey]
) -> None:
    """Every node has gathered, or soon will have, what these keys cosigned of the checkpoint of `size`."""
    for node in cluster.nodes():
        url = f"{node.http}/v1/ledgers/{LEDGER}/checkpoints?from_size={size}&limit=1"
        deadline = time.monotonic() + 20
        while True:
            (listed,) = json.loads((await text_of(session, url))[1])["checkpoints"]
            assert listed["size"] == size
            if set(open_note(listed["note"], keys).signatures_by) == set(keys):
                break
            assert time.monotonic() < deadline, f"{node.id} has not gathered all: {listed}"


async def test_a_killed_replica_keeps_its_key_and_cosigns_what_is_newest(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        victim, leader = await other_than_leader(session, cluster)
        keys = await replica_keys(session, leader)
        cluster.kill(victim)
        seq = await write(session, leader, "while it was dead")
        wait_until(
            lambda: any(each.id == victim.id and each.pid != victim.pid for each in cluster.nodes()),
            20,
            "the node was started again",
        )
        note = await cosigned(session, leader, seq, 3)
        assert keys[victim.id] in open_note(note, list(keys.values())).signatures_by
        assert await replica_keys(session, leader) == keys


def steled(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "node.main", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_keys_rotate_while_the_cluster_runs(cluster: Cluster) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        _, leader = await other_than_leader(session, cluster)
        seq = await write(session, leader, "old")
        old_log, old = await log_key(session, leader), await replica_keys(session, leader)
        signed_by_old = await cosigned(session, leader, seq, 3)

        config = ["--config", str(cluster.data / "n1" / "steled.toml")]
        steled("keys", "rotate-replica", "--ml-dsa", *config)
        steled("keys", "add-log-key", *config)
        steled("keys", "rotate-log", *config)

        new_log, new = await log_key(session, leader), await replica_keys(session, leader)
        assert new_log != old_log
        assert new["n1"] != old["n1"]
        assert {**new, "n1": old["n1"]} == old
        listed = (await keys_of(session, leader))["replicas"]
        of_n1 = [
            VerifierKey.parse(key)
            for each in listed
            if (each["node"], each["state"]) == ("n1", "active")
            for key in each["verifier_keys"]
        ]
        assert [key.algorithm for key in of_n1] == [COSIGNATURE_V1, ML_DSA_44]
        assert str(old["n1"]) in [each["verifier_keys"][0] for each in listed if each["state"] == "retired"]

        seq = await write(session, leader, "new")
        signed_by_new = await cosigned(session, leader, seq, 3)
        assert set(open_note(signed_by_new, [new_log, *new.values()]).signatures_by) == {
            new_log,
            *new.values(),
        }
        with pytest.raises(Unsigned):
            open_note(signed_by_new, [old["n1"]])
        size = parse_checkpoint_text(split_note(signed_by_new)[0]).size
        await check_that_all_nodes_keep(session, cluster, size, [*of_n1, new["n0"], new["n2"]])
        # What was signed before stays signed by those who signed it.
        assert set(open_note(signed_by_old, [old_log, *old.values()]).signatures_by) == {
            old_log,
            *old.values(),
        }


def test_the_demo_writes_a_policy_that_its_checkpoints_meet(cluster: Cluster) -> None:
    text = (cluster.data / "trust.policy").read_text()
    lines = [line.split(" ") for line in text.splitlines()]
    assert [line[0] for line in lines] == ["log", "witness", "witness", "witness", "group", "quorum"]
    assert lines[0][1] == cluster.verifier_key
    assert [VerifierKey.parse(line[2]).algorithm for line in lines[1:4]] == [COSIGNATURE_V1] * 3
    assert lines[4][1:] == ["replicas", "2", "n0", "n1", "n2"]
    assert lines[5] == ["quorum", "replicas"]
