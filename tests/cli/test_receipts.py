"""Receipts, policies, audits and witnesses from the command line, against a real node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stele.verify.note import VerifierKey
from tests.cli.conftest import Stele
from tests.client.conftest import url_of
from tests.cluster.cluster import Cluster
from tests.node.served import free_port


def replica_keys(cluster: Cluster) -> list[dict[str, Any]]:
    with urllib.request.urlopen(url_of(cluster) + "/v1/cluster/keys", timeout=20) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)["replicas"]
        return found


@pytest.fixture
def policy(stele: Stele, ledger: str, single: Cluster, tmp_path: Path) -> Path:
    """A policy file: the log's key and the one replica there is."""
    deadline = time.monotonic() + 20
    while not replica_keys(single):  # journaled soon after the first start
        assert time.monotonic() < deadline
        time.sleep(0.02)
    path = tmp_path / "trust.policy"
    made = stele("policy", "make", ledger, "-o", path)
    assert made.code == 0, made.err
    return path


@pytest.fixture
def filled(stele: Stele, ledger: str) -> str:
    for n in range(3):
        assert stele("document", "put", ledger, "t", "a", json.dumps({"n": n})).code == 0
    assert stele("document", "delete", ledger, "t", "a").code == 0
    assert stele("document", "put", ledger, "t", "b", '{"b":1}').code == 0
    return ledger


def test_receipts_are_checked_offline(
    stele: Stele, filled: str, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "current": ["b"],
        "absence": ["a"],
        "revision": ["a", "--version", "1"],
        "as-of": ["a", "--as-of-seq", "3"],
        "history": ["a", "--history"],
    }
    for kind, arguments in asked.items():
        file = tmp_path / f"{kind}.json"
        got = stele("receipt", "get", filled, "t", *arguments, "-o", file, "--policy", policy)
        assert (got.code, got.out) == (0, ""), got.err
    assert stele("receipt", "block", filled, 3, "-o", tmp_path / "block.json", "--policy", policy).code == 0
    monkeypatch.setenv("STELE_ENDPOINTS", "http://127.0.0.1:9")
    shown = {}
    for kind in [*asked, "block"]:
        checked = stele("verify", tmp_path / f"{kind}.json", "--policy", policy, "-o", "json")
        assert checked.code == 0, checked.err
        assert (checked.json["result"], checked.json["kind"]) == ("verified", kind)
        shown[kind] = checked.json
    assert shown["current"]["data"] == {"b": 1}
    assert shown["absence"]["op"] == "delete"
    assert shown["as-of"]["data"] == {"n": 1}
    assert [each["version"] for each in shown["history"]["revisions"]] == [3, 2, 1, 0]
    assert len(shown["current"]["signed_by"].split(", ")) == 2

    text = (tmp_path / "current.json").read_text(encoding="utf-8")
    (tmp_path / "forged.json").write_text(text.replace('"b": 1', '"b": 2'), encoding="utf-8")
    forged = stele("verify", tmp_path / "forged.json", "--policy", policy)
    assert (forged.code, forged.out) == (6, "")
    assert "commitment" in forged.err


def test_a_policy_that_is_not_fulfilled(stele: Stele, filled: str, policy: Path, tmp_path: Path) -> None:
    demanding = tmp_path / "demanding.policy"
    text = policy.read_text(encoding="utf-8").replace("group replicas 1 n0", "group replicas all n0 w")
    stranger = VerifierKey("w", 4, bytes(31) + b"\x01")
    demanding.write_text(text.replace("group", f"witness w {stranger}\ngroup", 1), encoding="utf-8")
    assert stele("receipt", "get", filled, "t", "b", "-o", tmp_path / "r.json", "--policy", policy).code == 0
    refused = stele("verify", tmp_path / "r.json", "--policy", demanding)
    assert refused.code == 6
    assert "2 of n0, w" in refused.err
    broken = tmp_path / "broken.policy"
    broken.write_text("quorum nobody\n", encoding="utf-8")
    assert "line 1" in stele("verify", tmp_path / "r.json", "--policy", broken).err


def test_an_audit_follows_and_resumes(stele: Stele, filled: str, policy: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    first = stele("audit", filled, "--copy", copy, "--policy", policy, "-o", "json")
    assert first.code == 0, first.err
    assert first.json["result"] == "holds"
    assert first.json["new_blocks"] == first.json["size"]
    assert first.json["state_root"] is not None
    again = stele("audit", filled, "--copy", copy, "--policy", policy, "-o", "json")
    assert (again.code, again.json["new_blocks"], again.json["root"]) == (0, 0, first.json["root"])
    stele("document", "put", filled, "t", "c", "{}")
    grown = stele("audit", filled, "--copy", copy, "--policy", policy, "-o", "json")
    assert grown.json["size"] == first.json["size"] + grown.json["new_blocks"]

    journal = copy / "journal.ndjson"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])  # as a crash leaves it: the torn line is fetched again
    assert stele("audit", filled, "--copy", copy, "--policy", policy).code == 6  # shorter than its checkpoint
    journal.write_bytes(whole.replace(b'"n":1', b'"n":7'))
    tampered = stele("audit", filled, "--copy", copy, "--policy", policy)
    assert tampered.code == 6
    assert "blocks of the copy" in tampered.err
    replayed = stele("audit", filled, "--copy", copy, "--policy", policy, "--from-start")
    assert (replayed.code, "commitment" in replayed.err) == (6, True)
    journal.write_bytes(whole)
    kept = copy / "replay.state"
    state = kept.read_bytes()
    kept.write_bytes(state[:-40] + bytes([state[-40] ^ 1]) + state[-39:])
    assert stele("audit", filled, "--copy", copy, "--policy", policy).code == 6
    kept.unlink()
    whole_again = stele("audit", filled, "--copy", copy, "--policy", policy, "--replica", "-o", "json")
    assert whole_again.json["root"] == grown.json["root"]
    assert kept.exists()
    other = stele("audit", "elsewhere", "--copy", copy, "--policy", policy)
    assert other.code == 3


@pytest.fixture
def witness(policy: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A witness of the policy's log, in a process of its own: its verifier key and URL."""
    port = free_port()
    command = [sys.executable, "-m", "stele.cli", "witness", "--name", "witness.example/w1"]
    command += ["--logs", str(policy), "--data", str(tmp_path / "witness"), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    key = process.stderr.readline().split()[2]
    assert "listening" in process.stderr.readline()
    yield key, f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)
    process.stderr.close()


def test_outside_witnesses_cosign(
    stele: Stele, filled: str, policy: Path, witness: tuple[str, str], tmp_path: Path
) -> None:
    key, url = witness
    text = policy.read_text(encoding="utf-8")
    text = text.replace("group replicas 1 n0", f"witness w1 {key} {url}\ngroup replicas all n0 w1")
    policy.write_text(text, encoding="utf-8")
    for number in range(2):  # from nothing, and then from what the witness has
        stele("document", "put", filled, "t", f"w{number}", "{}")
        cosigned = stele("checkpoint", "cosign", filled, "--policy", policy)
        assert cosigned.code == 0, cosigned.err
        assert "witness.example/w1" in cosigned.out
