"""POST …/erasures: who may, what readers then get, and that what proves the past stays."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from node.http import erasure_schemas
from stele.client import BlockingClient
from stele.client import TrustPolicy as ClientPolicy
from stele.verify import ProofVerifier, verify_absence, verify_document
from stele.verify.document import with_data
from stele.verify.entry import Moment
from stele.verify.errors import BrokenChain, Incomplete, Malformed, Mismatch, VerificationError
from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.receipt import verify_receipt
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
    made = msgspec.json.decode(answer.body, type=erasure_schemas.ErasureAnswer)
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
    before = node.ask("GET", f"{path}?proof=true").json
    place = before["proof"]["document"]["revision"]["place"]
    seq, size = before["seq"], int(before["proof"]["checkpoint"].split("\n")[1])
    receipt = receipt_of(node, ledger, "current", with_data(before["proof"], before["data"]))
    assert erase(node, ledger).json["seq"] >= size
    block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{seq}").json
    assert block["header"] == place["header"]
    inclusion = node.ask("GET", f"/v1/ledgers/{ledger}/proofs/inclusion?seq={seq}&size={size}").json
    assert "".join(inclusion["path"]) == base64.b64decode(place["path"]).hex()
    assert verify_document(before, verifier(node, ledger), "cars", "k").revision is not None
    proven = verify_receipt(receipt, policy(node, ledger)).proven
    assert proven is not None
    assert proven.revision is not None
    assert (proven.revision.data, proven.revision.erased_by) == ({"n": 2, "name": SECRET}, None)


def test_an_erasure_is_proved_at_once(node: ServedNode, ledger: str) -> None:
    """The 410 shows the revision without content and the block that took it, under one seal."""
    path = write(node, ledger)
    past = node.size(ledger) - 1
    seq = erase(node, ledger, versions=[1, 2]).json["seq"]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        ("&version=1", {"version": 1}),
        (f"&as_of_seq={past}", {"moment": Moment(past)}),
    ]
    for query, question in asked:
        gone = node.ask("GET", f"{path}?proof=true{query}")
        assert (gone.status, gone.slug) == (410, "erased")
        revision = verify_absence(
            gone.json["proof"], verifier(node, ledger), "cars", "k", **question
        ).revision
        assert revision is not None
        assert (revision.erased_by, revision.opened, revision.data) == (seq, False, None)
    proof = node.ask("GET", f"{path}?proof=true&version=1").json["proof"]
    receipt = receipt_of(node, ledger, "revision", proof, version=1)
    assert verify_receipt(receipt, policy(node, ledger)).proven is not None
    current = node.ask("GET", f"{path}?proof=true").json["proof"]
    assert (
        verify_receipt(receipt_of(node, ledger, "current", current), policy(node, ledger)).proven is not None
    )
    with pytest.raises(Mismatch):  # It is erased, not absent.
        verify_receipt(receipt_of(node, ledger, "absence", current), policy(node, ledger))
    block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{past}?proof=true").json
    proof = block.pop("proof")
    receipt = receipt_of(node, ledger, "block", proof, block=block, table=UNSET, key=UNSET)
    assert verify_receipt(receipt, policy(node, ledger)).block is not None
    history = node.ask("GET", f"{path}/history?proof=true").json
    history["proof"]["document"]["older"][1]["data"] = history["revisions"][2]["data"]
    proven = verifier(node, ledger).history(history["proof"], "cars", "k")
    assert [(fact.opened, fact.erased_by) for fact in proven.older] == [(False, seq), (True, None)]


def test_a_client_hears_by_which_block_each_content_of_a_history_went(node: ServedNode, ledger: str) -> None:
    write(node, ledger, 7)
    by: dict[int, int] = {}
    for versions in ([0, 2, 4], [1, 5]):
        made: int = erase(node, ledger, versions=versions).json["seq"]
        by.update((version, made) for version in versions)
    trust = ClientPolicy(str(verifier(node, ledger).policy.logs[0]))
    with BlockingClient([node.url], trust=trust) as client:
        cars = client.ledger(ledger)
        shown = list(cars.history("cars", "k"))
        assert [(each.version, each.erased) for each in shown] == [(n, by.get(n)) for n in range(6, -1, -1)]
        receipt = json.loads(cars.receipt("cars", "k", history=True))
    facts = verifier(node, ledger).history(receipt["proof"], "cars", "k").older
    assert [fact.erased_by for fact in facts] == [by.get(n) for n in range(5, -1, -1)]
    # Each block is shown once for those that it erased side by side, live revisions aside.
    assert ["erasure" in each for each in receipt["proof"]["document"]["older"]] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]


def test_content_cannot_be_withheld_with_the_erasure_of_another_revision(
    node: ServedNode, ledger: str
) -> None:
    path = write(node, ledger)
    erase(node, ledger, versions=[1])
    erased = node.ask("GET", f"{path}?proof=true&version=1").json["proof"]
    shown = node.ask("GET", f"{path}?proof=true&version=2").json["proof"]
    revision = shown["document"]["revision"]
    del revision["salt"]
    with pytest.raises(Incomplete):
        verify_absence(shown, verifier(node, ledger), "cars", "k", version=2)
    revision["erasure"] = erased["document"]["revision"]["erasure"]
    with pytest.raises(Mismatch):
        verify_absence(shown, verifier(node, ledger), "cars", "k", version=2)
    revision["erasure"]["info"]["erasure"]["versions"] = [[1, 2]]
    with pytest.raises(Mismatch):
        verify_absence(shown, verifier(node, ledger), "cars", "k", version=2)
    revision["erasure"] = {
        "header": revision["place"]["header"],
        "info": revision["erasure"]["info"],
        "path": revision["place"]["path"],
    }
    with pytest.raises(Mismatch):
        verify_absence(shown, verifier(node, ledger), "cars", "k", version=2)


def verifier(node: ServedNode, ledger: str) -> ProofVerifier:
    info = node.ask("GET", f"/v1/ledgers/{ledger}").json
    return ProofVerifier(VerifierKey.parse(info["verifier_key"]), info["id"])


def policy(node: ServedNode, ledger: str) -> TrustPolicy:
    return verifier(node, ledger).policy


def receipt_of(node: ServedNode, ledger: str, kind: str, proof: dict[str, Any], **members: Any) -> bytes:
    checks = verifier(node, ledger)
    head = {"receipt": 1, "kind": kind, "ledger": checks.policy.logs[0].name, "ledger_id": checks.ledger_id}
    named = {"table": "cars", "key": "k"} | members
    shown = {name: value for name, value in named.items() if value is not UNSET}
    return json.dumps(head | shown | {"proof": proof}).encode()


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
