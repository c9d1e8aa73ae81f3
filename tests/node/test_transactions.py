"""Transactions and idempotency keys over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from node.http import schemas
from tests.node.served import Answer, ServedNode


def put(key: str, n: int) -> dict[str, Any]:
    return {"op": "put", "table": "cars", "key": key, "data": {"n": n}}


def delete(key: str) -> dict[str, Any]:
    return {"op": "delete", "table": "cars", "key": key}


def transact(node: ServedNode, ledger: str, *operations: dict[str, Any], **more: Any) -> Answer:
    return node.ask("POST", f"/v1/ledgers/{ledger}/transactions", {"operations": list(operations), **more})


def document(node: ServedNode, ledger: str, key: str) -> Answer:
    return node.ask("GET", f"/v1/ledgers/{ledger}/tables/cars/documents/{key}")


def test_all_operations_stand_in_one_block(node: ServedNode, ledger: str) -> None:
    transact(node, ledger, put("old", 0))
    answer = transact(node, ledger, put("a", 1), put("b", 2), delete("old"))
    assert answer.status == 200
    made = msgspec.json.decode(answer.body, type=schemas.TransactionAnswer)
    assert [(revision.key, revision.version) for revision in made.revisions] == [
        ("a", 0),
        ("b", 0),
        ("old", 1),
    ]
    block = node.ask("GET", f"/v1/ledgers/{ledger}/blocks/{made.seq}").json
    assert block["header"]["revision_count"] == 3
    assert block["header"]["tx"] == made.tx
    assert document(node, ledger, "a").json["seq"] == document(node, ledger, "b").json["seq"] == made.seq
    assert document(node, ledger, "old").status == 410


def test_one_bad_operation_refuses_them_all(node: ServedNode, ledger: str) -> None:
    refused = transact(node, ledger, put("a", 1), delete("missing"))
    assert (refused.status, refused.slug) == (404, "not-found")
    assert document(node, ledger, "a").status == 404


@pytest.mark.parametrize(
    ("conditions", "failing"),
    [
        ([{"table": "cars", "key": "a", "version": 0}], None),
        ([{"table": "cars", "key": "a", "version": 1}], 0),
        ([{"table": "cars", "key": "new", "version": None}], None),
        (
            [
                {"table": "cars", "key": "new", "version": None},
                {"table": "cars", "key": "a", "version": None},
            ],
            1,
        ),
    ],
)
def test_conditions_on_versions(
    node: ServedNode, ledger: str, conditions: list[dict[str, Any]], failing: int | None
) -> None:
    transact(node, ledger, put("a", 0))
    answer = transact(node, ledger, put("b", 1), conditions=conditions)
    if failing is None:
        assert answer.status == 200
    else:
        assert (answer.status, answer.slug, answer.json["condition"]) == (409, "condition-failed", failing)
        assert document(node, ledger, "b").status == 404


@pytest.mark.parametrize(
    "condition",
    [{"table": "cars", "key": "a1"}, {"table": "cars", "prefix": "a"}, {"table": "cars"}],
)
def test_what_was_read_must_not_have_changed(
    node: ServedNode, ledger: str, condition: dict[str, Any]
) -> None:
    seq = transact(node, ledger, put("a1", 0)).json["seq"]
    first = transact(node, ledger, put("a1", 1), conditions=[condition], read_seq=seq)
    assert first.status == 200
    late = transact(node, ledger, put("a1", 2), conditions=[condition], read_seq=seq)
    assert (late.status, late.slug, late.json["condition"]) == (409, "condition-failed", 0)


def test_what_became_of_a_transaction(node: ServedNode, ledger: str) -> None:
    path = f"/v1/ledgers/{ledger}/transactions"
    made = transact(node, ledger, put("a", 1)).json
    assert node.ask("GET", f"{path}/{made['tx']}").json == {
        "tx": made["tx"],
        "status": "committed",
        "seq": made["seq"],
    }
    assert node.ask("GET", f"{path}/{'0' * 32}").json == {"tx": "0" * 32, "status": "unknown"}
    for refused in (
        transact(node, ledger, put("a", 1), conditions=[{"table": "cars", "key": "a", "version": None}]),
        node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/a", {}, {"If-None-Match": "*"}),
    ):
        tx = refused.json["tx"]
        expected = {"tx": tx, "status": "refused", "reason": "version-mismatch"}
        assert node.ask("GET", f"{path}/{tx}").json == expected
    # Nobody can ask about a transaction of a ledger that does not exist.
    assert "tx" not in transact(node, "nowhere", put("a", 1)).json


def test_a_repeated_request_gets_its_first_answer_and_writes_once(node: ServedNode, ledger: str) -> None:
    path, headers = f"/v1/ledgers/{ledger}/tables/cars/documents/a", {"Idempotency-Key": "k1"}
    first = node.ask("PUT", path, b'{"a":1,"b":2}', headers)
    node.ask("PUT", path, {"other": True})
    again = node.ask("PUT", path, b'{ "b": 2, "a": 1.0 }', headers)
    assert (again.status, again.json, again.headers["ETag"]) == (201, first.json, first.headers["ETag"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert document(node, ledger, "a").json["version"] == 1


def test_a_key_is_not_for_two_requests(node: ServedNode, ledger: str) -> None:
    base, headers = f"/v1/ledgers/{ledger}/tables/cars/documents", {"Idempotency-Key": "k1"}
    node.ask("PUT", f"{base}/a", {"n": 1}, headers)
    size = node.size(ledger)
    others = [
        node.ask("PUT", f"{base}/a", {"n": 2}, headers),
        node.ask("PUT", f"{base}/b", {"n": 1}, headers),
        node.ask("PUT", f"{base}/a", {"n": 1}, headers | {"If-Match": '"0"'}),
        node.ask("DELETE", f"{base}/a", None, headers),
    ]
    assert {(other.status, other.slug) for other in others} == {(422, "idempotency-key-reused")}
    assert node.size(ledger) == size


def test_a_refusal_is_repeated_too(node: ServedNode, ledger: str) -> None:
    path = f"/v1/ledgers/{ledger}/tables/cars/documents/a"
    headers = {"Idempotency-Key": "k1", "If-Match": '"0"'}
    first = node.ask("PUT", path, {"n": 1}, headers)
    node.ask("PUT", path, {"n": 0})
    again = node.ask("PUT", path, {"n": 1}, headers)
    assert (first.status, again.status, again.json["detail"]) == (412, 412, first.json["detail"])
    assert "tx" not in again.json  # it stands under the first one's id


def test_a_transaction_is_repeated_as_a_whole(node: ServedNode, ledger: str) -> None:
    body = {"operations": [put("a", 1), put("b", 2)]}
    path, headers = f"/v1/ledgers/{ledger}/transactions", {"Idempotency-Key": "k1"}
    first, again = (node.ask("POST", path, body, headers) for _ in range(2))
    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"


def test_the_first_answer_outlives_a_restart(
    node: ServedNode, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("restarted")
    path, headers = "/v1/ledgers/l/tables/cars/documents/a", {"Idempotency-Key": "k1"}
    before = ServedNode(directory).start()
    before.ledger("l")
    first = before.ask("PUT", path, {"n": 1}, headers)
    before.stop()
    after = ServedNode(directory).start()
    again = after.ask("PUT", path, {"n": 1}, headers)
    after.stop()
    assert (again.status, again.json) == (201, first.json)
