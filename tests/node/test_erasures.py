"""POST …/erasures: who may, what readers then get, and that what proves the past stays."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.http import schemas
from stele.verify.errors import BrokenChain, Incomplete, Malformed, Mismatch, VerificationError
from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from tests.node.served import Answer, ServedNode

# Random, so that RocksDB's compression leaves it whole in the files.
SECRET = "".join(chr(0x4E00 + secrets.randbelow(20_000)) for _ in range(24))
CLEARED_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    served = ServedNode(tmp_path_factory.mktemp("erasing"), {"allow_erasure": True}).start()
    yield served
    served.stop()


def erase(node: ServedNode, ledger: str, headers: dict[str, str] | None = None, **changed: Any) -> Answer:
    body = {"table": "cars", "key": "k", "versions": "all", "reason": "asked for", **changed}
    return node.ask("POST", f"/v1/ledgers/{ledger}/erasures", body, headers)


def write(node: ServedNode, ledger: str, count: int = 3) -> str:
    path = f"/v1/ledgers/{ledger}/tables/cars/documents/k"
    for n in range(count):
        assert node.ask("PUT", path, {"n": n, "name": SECRET}).status in (200, 201)
    return path


def until_complete(node: ServedNode, ledger: str, seq: int) -> Any:
    deadline = time.monotonic() + CLEARED_WITHIN_S
    while True:
        answer = node.ask("GET", f"/v1/ledgers/{ledger}/erasures/{seq}")
        assert answer.status == 200
        if answer.json["complete"]:
            return answer.json
        assert time.monotonic() < deadline, answer.json
        time.sleep(0.05)


def files_with(directory: Path, what: str) -> list[str]:
    return [
        path.name for path in directory.rglob("*") if path.is_file() and what.encode() in path.read_bytes()
    ]


def test_readers_get_410_with_the_erasures_block(node: ServedNode, ledger: str) -> None:
    path = write(node, ledger)
    past = node.size(ledger) - 1
    answer = erase(node, ledger)
    assert answer.status == 202
    made = msgspec.json.decode(answer.body, type=schemas.ErasureAnswer)
    assert (made.seq, made.table, made.key, made.versions) == (past + 1, "cars@1", "k", [(0, 2)])
    assert answer.headers["Location"] == f"/v1/ledgers/{ledger}/erasures/{made.seq}"
    for query in (
        "",
        "?version=0",
        "?version=2",
        f"?as_of_seq={past}",
        "?consistency=snapshot",
        "?proof=true",
    ):
        gone = node.ask("GET", path + query)
        assert (gone.status, gone.slug, gone.json["erasure"]) == (410, "erased", made.seq)
    assert node.ask("GET", path, headers={"If-None-Match": '"2"'}).status == 410
    history = node.ask("GET", f"{path}/history").json["revisions"]
    assert [(each["version"], each["erased"]) for each in history] == [(n, made.seq) for n in (2, 1, 0)]
    assert all("data" not in each for each in history)
    listed = node.ask("GET", path.removesuffix("/k")).json["documents"]
    assert listed == []
    block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{past}").json["revisions"][0]
    assert set(block) == {"leaf", "erased"}
    assert SECRET not in node.ask("GET", f"/v1/ledgers/{ledger}/export").body.decode()


def test_the_document_lives_on(node: ServedNode, ledger: str) -> None:
    path = write(node, ledger, 2)
    seq = erase(node, ledger, versions=[0]).json["seq"]
    assert node.ask("GET", path).json["data"]["n"] == 1
    assert node.ask("GET", f"{path}?version=0").json["erasure"] == seq
    assert erase(node, ledger).json["versions"] == [[1, 1]]
    assert node.ask("PUT", path, {"n": "new"}, {"If-Match": '"1"'}).json["version"] == 2
    assert node.ask("GET", path).json["data"] == {"n": "new"}
    assert erase(node, ledger, versions=[0, 1]).slug == "already-erased"


def test_older_proofs_stay_valid(node: ServedNode, ledger: str) -> None:
    """What was proved before is proved by the same bytes: nothing in the tree has changed."""
    path = write(node, ledger)
    proof = node.ask("GET", f"{path}?proof=true").json["proof"]
    seq, size = proof["header"]["seq"], proof["size"]
    assert erase(node, ledger).json["seq"] >= size
    block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{seq}").json
    assert (block["header"], block["revisions"][0]["leaf"]) == (proof["header"], proof["leaf"])
    inclusion = node.ask("GET", f"/v1/ledgers/{ledger}/proofs/inclusion?seq={seq}&size={size}").json
    assert inclusion["path"] == proof["path"]


def test_an_export_with_erasures_verifies(node: ServedNode, ledger: str) -> None:
    write(node, ledger)
    seq = erase(node, ledger, versions=[0, 2], reason="Art. 17").json["seq"]
    lines = node.ask("GET", f"/v1/ledgers/{ledger}/export").body.splitlines()
    key = VerifierKey.parse(node.ask("GET", f"/v1/ledgers/{ledger}").json["verifier_key"])
    report = verify_export(lines, key)
    assert (report.blocks, report.erased, report.erasures_beyond) == (seq + 2, 2, 0)
    assert (report.seals, report.state_checked) == (1, True)
    said = json.loads(lines[1 + seq])["info"]["erasure"]
    assert said == {"key": "k", "reason": "Art. 17", "table": "cars@1", "versions": [[0, 0], [2, 2]]}
    early = node.ask("GET", f"/v1/ledgers/{ledger}/export?to={seq}").body.splitlines()
    report = verify_export(early, None)
    assert (report.erased, report.erasures_beyond) == (2, 2)


@pytest.mark.parametrize(
    ("find", "replace", "expected"),
    [
        # A revision hidden without a block that erased it, or by one that erased others.
        (b'"salt":', b'"erased":6,"salt":', Malformed),
        (b'"erased":6', b'"erased":5', Mismatch),
        (b'"erased":6', b'"erased":2', BrokenChain),
        (b'"erased":6', b'"erased":8', Incomplete),
        (b'"versions":[[0,0],[2,2]]', b'"versions":[[0,0]]', Mismatch),
        (b'"versions":[[0,0],[2,2]]', b'"versions":[[0,2]]', Mismatch),
    ],
)
def test_a_forged_erasure_is_refused(
    node: ServedNode, ledger: str, find: bytes, replace: bytes, expected: type[VerificationError]
) -> None:
    assert node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/other", {}).status == 201
    write(node, ledger)
    assert erase(node, ledger, versions=[0, 2]).json["seq"] == 6
    lines = node.ask("GET", f"/v1/ledgers/{ledger}/export").body.splitlines()
    at = next(number for number, line in enumerate(lines) if find in line)
    lines[at] = lines[at].replace(find, replace, 1)
    with pytest.raises(expected):
        verify_export(lines, None)


def test_a_revision_cannot_be_hidden_without_an_erasure(node: ServedNode, ledger: str) -> None:
    write(node, ledger)
    lines = node.ask("GET", f"/v1/ledgers/{ledger}/export").body.splitlines()
    block = json.loads(lines[3])
    (revision,) = block["revisions"]
    block["revisions"] = [{"leaf": revision["leaf"], "erased": 4}]
    lines[3] = json.dumps(block, separators=(",", ":")).encode()
    with pytest.raises(Mismatch, match="kind"):
        verify_export(lines, None)


@pytest.mark.parametrize(
    ("changed", "status", "slug"),
    [
        ({"key": "nobody"}, 404, "not-found"),
        ({"versions": [3]}, 404, "not-found"),
        ({"table": "boats"}, 404, "table-unknown"),
        ({"table": "cars@9"}, 404, "table-unknown"),
        ({"table": "$tables", "key": "cars"}, 422, "invalid-field"),
        ({"reason": ""}, 422, "invalid-field"),
        ({"reason": "x" * 1_001}, 422, "invalid-field"),
        ({"versions": []}, 422, "invalid-field"),
        ({"versions": "some"}, 422, "invalid-field"),
        ({"versions": [-1]}, 422, "invalid-field"),
        ({"versions": list(range(1_001))}, 422, "invalid-field"),
        ({"key": "a/b"}, 422, "invalid-field"),
        ({"key": ".."}, 400, "invalid-name"),
        ({"more": 1}, 422, "invalid-field"),
    ],
)
def test_what_is_refused(
    node: ServedNode, ledger: str, changed: dict[str, Any], status: int, slug: str
) -> None:
    write(node, ledger)
    size = node.size(ledger)
    answer = erase(node, ledger, **changed)
    assert (answer.status, answer.slug) == (status, slug)
    assert node.size(ledger) == size


def test_a_repeated_request_erases_once(node: ServedNode, ledger: str) -> None:
    write(node, ledger)
    first = erase(node, ledger, {"Idempotency-Key": "e"})
    again = erase(node, ledger, {"Idempotency-Key": "e"})
    assert again.json["seq"] == first.json["seq"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert erase(node, ledger, {"Idempotency-Key": "e"}, reason="another").slug == "idempotency-key-reused"


def test_the_key_of_a_posted_document_says_nothing_of_it(node: ServedNode) -> None:
    """It stays in the journal for ever, so it must not be a digest of what is erased."""
    locations = []
    for name in (SECRET, "another"):
        node.ledger("posted")
        path = "/v1/ledgers/posted/tables/cars/documents"
        answer = node.ask("POST", path, {"name": name}, {"Idempotency-Key": "p"})
        assert answer.status == 201
        locations.append(answer.headers["Location"])
        assert node.ask("PUT", "/v1/ledgers/posted", {"deletion_protection": False}).status == 200
        assert node.ask("DELETE", "/v1/ledgers/posted").status in (200, 204)
    assert locations[0] == locations[1]


def test_what_is_no_erasure(node: ServedNode, ledger: str) -> None:
    assert node.ask("GET", f"/v1/ledgers/{ledger}/erasures/0").slug == "not-found"
    assert node.ask("GET", f"/v1/ledgers/{ledger}/erasures/0/replica").slug == "not-found"
    assert node.ask("GET", f"/v1/ledgers/{ledger}/erasures/99").slug == "block-unknown"
    behind = node.ask("GET", f"/v1/ledgers/{ledger}/erasures/99/replica").json
    assert behind == {"id": "n0", "complete": False, "waiting_for": "block"}
    assert node.ask("GET", "/v1/ledgers/nobody/erasures/0/replica").slug == "ledger-unknown"


def test_nothing_is_left_in_the_files(node: ServedNode, ledger: str) -> None:
    """Another text than that of the other tests, whose ledgers lie in the same files."""
    secret = SECRET[::-1]
    path = f"/v1/ledgers/{ledger}/tables/cars/documents/k"
    assert node.ask("PUT", path, {"name": secret}).status == 201
    salt = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/2").json["revisions"][0]["salt"]
    assert files_with(node.config.data_dir, secret)
    seq = erase(node, ledger).json["seq"]
    complete = until_complete(node, ledger, seq)
    (replica,) = complete["replicas"]
    assert (replica["id"], replica["complete"]) == ("n0", True)
    assert replica["completed_at"] > complete["at"]
    assert files_with(node.config.data_dir, secret) == []
    for file in node.config.data_dir.rglob("*"):
        assert not file.is_file() or bytes.fromhex(salt) not in file.read_bytes()


def test_a_restart_finishes_what_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("node.limits.ERASURE_POLL_S", 3_600)
        served = ServedNode(tmp_path, {"allow_erasure": True}).start()
        served.ledger("restarted")
        write(served, "restarted")
        seq = erase(served, "restarted").json["seq"]
        assert not served.ask("GET", f"/v1/ledgers/restarted/erasures/{seq}").json["complete"]
        served.stop()
    assert files_with(tmp_path / "data", SECRET)
    served = ServedNode(tmp_path).start()
    until_complete(served, "restarted", seq)
    assert files_with(tmp_path / "data", SECRET) == []
    assert erase(served, "restarted").slug == "erasure-not-allowed"
    served.stop()
    assert files_with(tmp_path / "data", SECRET) == []
