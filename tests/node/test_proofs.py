"""What a node proves convinces someone who trusts only the log's key, and says what the node said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stele.verify import ProofVerifier, verify_absence, verify_document
from stele.verify.document import with_data
from stele.verify.entry import Fact, Moment
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.receipt import verify_receipt
from tests.node.served import Answer, ServedNode


@pytest.fixture(scope="module")
def ledger(node: ServedNode) -> str:
    """Documents of every fate: changed, deleted, twice in a block, in a dropped and a recreated table."""
    name = node.ledger("proved", "cars")
    base = f"/v1/ledgers/{name}"

    def put(table: str, key: str, data: dict[str, Any]) -> None:
        assert node.ask("PUT", f"{base}/tables/{table}/documents/{key}", data).status in (200, 201)

    put("cars", "changed", {"n": 0})
    put("cars", "changed", {"n": 1})
    put("cars", "deleted", {"n": 0})
    node.ask("DELETE", f"{base}/tables/cars/documents/deleted")
    operations = [{"op": "put", "table": "cars", "key": "changed", "data": {"n": n}} for n in (2, 3)]
    assert node.ask("POST", f"{base}/transactions", {"operations": operations}).status == 200
    node.ask("PUT", f"{base}/tables/boats")
    put("boats", "argo", {"crew": 50})
    node.ask("GET", f"{base}/checkpoint")  # a seal in between
    node.ask("DELETE", f"{base}/tables/boats")
    node.ask("PUT", f"{base}/tables/boats")
    put("boats", "fram", {"crew": 16})
    node.ask("PUT", f"{base}/tables/dropped")
    put("dropped", "x", {})
    node.ask("DELETE", f"{base}/tables/dropped")
    return name


@pytest.fixture(scope="module")
def verifier(node: ServedNode, ledger: str) -> ProofVerifier:
    info = node.ask("GET", f"/v1/ledgers/{ledger}").json
    return ProofVerifier(VerifierKey.parse(info["verifier_key"]), info["id"])


CASES = [
    ("cars", "changed"),
    ("cars", "deleted"),
    ("cars", "never"),
    ("boats", "argo"),
    ("boats", "fram"),
    ("dropped", "x"),
    ("unknown", "x"),
]


def read(node: ServedNode, ledger: str, table: str, key: str, query: str) -> Answer:
    return node.ask("GET", f"/v1/ledgers/{ledger}/tables/{table}/documents/{key}?{query}")


def check(answer: Answer, verifier: ProofVerifier, table: str, key: str, **asked: Any) -> Fact | None:
    """Verify an answer, whatever it says; the revision that it shows."""
    if answer.status == 200:
        return verify_document(answer.json, verifier, table, key, **asked).revision
    assert answer.slug in ("not-found", "gone", "table-unknown", "table-dropped")
    return verify_absence(answer.json["proof"], verifier, table, key, **asked).revision


@pytest.mark.parametrize(("table", "key"), CASES)
def test_current_values_and_absences(
    node: ServedNode, ledger: str, verifier: ProofVerifier, table: str, key: str
) -> None:
    proved, plain = read(node, ledger, table, key, "proof=true"), read(node, ledger, table, key, "")
    assert proved.status == plain.status
    check(proved, verifier, table, key)
    if plain.status == 200:
        assert {name: value for name, value in proved.json.items() if name != "proof"} == plain.json


@pytest.mark.parametrize(("table", "key"), CASES)
def test_what_is_current_is_proved_without_reading_it(
    node: ServedNode, ledger: str, verifier: ProofVerifier, table: str, key: str
) -> None:
    answer = node.ask("GET", f"/v1/ledgers/{ledger}/proofs/state?table={table}&key={key}").json
    assert (answer["table"], answer["key"]) == (table, key)
    plain = read(node, ledger, table, key, "").json
    if "data" in plain:
        verify_document({**plain, "proof": answer["proof"]}, verifier, table, key)
    else:
        verify_absence(answer["proof"], verifier, table, key)


@pytest.mark.parametrize(("table", "key"), CASES)
def test_every_past(node: ServedNode, ledger: str, verifier: ProofVerifier, table: str, key: str) -> None:
    size = node.size(ledger)
    for seq in range(size):
        proved = read(node, ledger, table, key, f"as_of_seq={seq}&proof=true")
        plain = read(node, ledger, table, key, f"as_of_seq={seq}")
        assert (proved.status, proved.json.get("data")) == (plain.status, plain.json.get("data"))
        check(proved, verifier, table, key, moment=Moment(seq=seq))
        at = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{seq}").json["header"]["at"]
        proved = read(node, ledger, table, key, f"as_of={at}&proof=true")
        check(proved, verifier, table, key, moment=Moment(at=at))
    for at in ("2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"):
        proved = read(node, ledger, table, key, f"as_of={at}&proof=true")
        check(proved, verifier, table, key, moment=Moment(at=at))


@pytest.mark.parametrize(("table", "key"), CASES)
def test_versions(node: ServedNode, ledger: str, verifier: ProofVerifier, table: str, key: str) -> None:
    for version in range(5):
        plain = read(node, ledger, table, key, f"version={version}")
        proved = read(node, ledger, table, key, f"version={version}&proof=true")
        assert proved.status == plain.status
        check(proved, verifier, table, key, version=version)
        for seq in (3, 5, 9):
            query = f"version={version}&as_of_seq={seq}"
            proved = read(node, ledger, table, key, f"{query}&proof=true")
            assert proved.status == read(node, ledger, table, key, query).status
            check(proved, verifier, table, key, version=version, moment=Moment(seq=seq))


@pytest.mark.parametrize(("table", "key"), CASES)
def test_histories(node: ServedNode, ledger: str, verifier: ProofVerifier, table: str, key: str) -> None:
    path = f"/v1/ledgers/{ledger}/tables/{table}/documents/{key}/history?proof=true"
    whole = node.ask("GET", path)
    revisions = whole.json.get("revisions", [])
    proven = verifier.history(with_all_data(whole.json), table, key)
    facts = [] if proven.revision is None else [proven.revision, *proven.older]
    assert [fact.version for fact in facts] == [each["version"] for each in revisions]
    assert [fact.data for fact in facts] == [each.get("data") for each in revisions]
    if len(revisions) < 2:
        return
    first = node.ask("GET", f"{path}&limit=1").json
    shown = verifier.history(with_all_data(first), table, key)
    rest = node.ask("GET", f"{path}&after={first['next']}").json
    assert shown.table is not None
    assert shown.revision is not None
    _, older = verifier.older(with_all_data(rest), shown.table, key, shown.revision)
    assert [fact.version for fact in older] == [each["version"] for each in rest["revisions"]]


def with_all_data(answer: dict[str, Any]) -> dict[str, Any]:
    """The proof of a history with the contents that stand beside it."""
    proof: dict[str, Any] = answer["proof"]
    document = proof["document"]
    shown = ([document["revision"]] if "revision" in document else []) + document.get("older", [])
    for revision, listed in zip(shown, answer.get("revisions", []), strict=True):
        if "data" in listed:
            revision["data"] = listed["data"]
    return proof


def test_answers_become_receipts(node: ServedNode, ledger: str, verifier: ProofVerifier) -> None:
    log = verifier.policy.logs[0]
    answer = read(node, ledger, "cars", "changed", "proof=true").json
    head = {"receipt": 1, "ledger": log.name, "ledger_id": verifier.ledger_id}
    names = {"table": "cars", "key": "changed"}
    receipt = {**head, "kind": "current", **names, "proof": with_data(answer["proof"], answer["data"])}
    report = verify_receipt(json.dumps(receipt).encode(), TrustPolicy((log,)))
    assert report.proven is not None
    assert report.proven.revision is not None
    assert report.proven.revision.data == {"n": 3}
    for seq in range(3):
        block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{seq}?proof=true").json
        proof = block.pop("proof")
        text = json.dumps({**head, "kind": "block", "block": block, "proof": proof}).encode()
        assert verify_receipt(text, TrustPolicy((log,))).block is not None


def test_a_proof_is_small(node: ServedNode, ledger: str) -> None:
    body = read(node, ledger, "cars", "changed", "proof=true").body
    assert len(body) < 12_000
