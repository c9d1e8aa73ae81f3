"""Ledgers, tables, and what operators ask."""

from __future__ import annotations

import re

import msgspec

import node as node_package
from node.http import cluster_schemas, schemas
from tests.node.served import ServedNode


def test_creating_a_ledger_is_idempotent_and_protected(node: ServedNode) -> None:
    first = node.ask("PUT", "/v1/ledgers/books")
    again = node.ask("PUT", "/v1/ledgers/books")
    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json
    described = msgspec.json.decode(first.body, type=schemas.Ledger)
    assert described.deletion_protection
    assert described.size == 1
    assert described.verifier_key.startswith("stele/books+")
    assert described in msgspec.json.decode(node.ask("GET", "/v1/ledgers").body, type=schemas.Ledgers).ledgers


def test_a_protected_ledger_is_not_deleted(node: ServedNode) -> None:
    node.ask("PUT", "/v1/ledgers/kept")
    refused = node.ask("DELETE", "/v1/ledgers/kept")
    assert (refused.status, refused.slug) == (409, "deletion-protected")
    assert not node.ask("PUT", "/v1/ledgers/kept", {"deletion_protection": False}).json["deletion_protection"]
    assert node.ask("DELETE", "/v1/ledgers/kept").status == 204
    assert node.ask("GET", "/v1/ledgers/kept").slug == "ledger-unknown"
    assert node.ask("DELETE", "/v1/ledgers/kept").slug == "ledger-unknown"


def test_a_ledger_made_again_is_another_one(node: ServedNode) -> None:
    settings = {"deletion_protection": False}
    first = node.ask("PUT", "/v1/ledgers/phoenix", settings).json
    old_note = node.ask("GET", "/v1/ledgers/phoenix/checkpoint").body
    node.ask("DELETE", "/v1/ledgers/phoenix")
    second = node.ask("PUT", "/v1/ledgers/phoenix", settings).json
    assert second["id"] != first["id"]
    assert node.ask("GET", "/v1/ledgers/phoenix/checkpoint").body != old_note


def test_tables_are_made_listed_and_dropped(node: ServedNode, ledger: str) -> None:
    base = f"/v1/ledgers/{ledger}/tables"
    made = node.ask("PUT", f"{base}/people", {"indexes": []})
    assert (made.status, node.ask("PUT", f"{base}/people").status) == (201, 200)
    assert made.json["state"] == "active"
    assert made.json["id"] == f"people@{made.json['created_seq']}"
    assert [table["name"] for table in node.ask("GET", base).json["tables"]] == ["cars", "people"]

    node.ask("PUT", f"{base}/people/documents/ada", {"n": 1})
    dropped = node.ask("DELETE", f"{base}/people")
    assert (dropped.status, dropped.json["state"]) == (200, "dropped")
    assert node.ask("GET", f"{base}/people").json["state"] == "dropped"
    for answer in (
        node.ask("PUT", f"{base}/people/documents/ada", {"n": 2}),
        node.ask("GET", f"{base}/people/documents/ada"),
        node.ask("DELETE", f"{base}/people"),
    ):
        assert (answer.status, answer.slug) == (410, "table-dropped")
    assert len(node.ask("GET", f"{base}/people/documents/ada/history").json["revisions"]) == 1


def test_a_table_has_the_state_of_the_time_that_is_asked_for(node: ServedNode, ledger: str) -> None:
    base = f"/v1/ledgers/{ledger}/tables"
    node.ask("DELETE", f"{base}/cars")
    assert node.ask("GET", f"{base}/cars?as_of_seq=1").json["state"] == "active"
    assert node.ask("GET", f"{base}?as_of_seq=0").json == {"tables": []}


def test_unknown_tables_and_ledgers(node: ServedNode, ledger: str) -> None:
    assert node.ask("GET", f"/v1/ledgers/{ledger}/tables/nowhere").slug == "table-unknown"
    assert node.ask("DELETE", f"/v1/ledgers/{ledger}/tables/nowhere").slug == "table-unknown"
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", "/tables/t"),
        ("GET", "/tables"),
        ("GET", "/export"),
    ):
        assert node.ask(method, f"/v1/ledgers/nowhere{path}").slug == "ledger-unknown"


def test_the_cluster_describes_itself(node: ServedNode) -> None:
    status = msgspec.json.decode(node.ask("GET", "/v1/cluster").body, type=cluster_schemas.Cluster)
    assert (status.cluster, status.node, status.leader) == ("stele", "n0", "n0")
    assert [(each.id, each.zone, each.role, each.http) for each in status.members] == [
        ("n0", "zone-a", "leader", node.url)
    ]
    assert status.applied_index > 0


def test_health_version_and_docs(node: ServedNode) -> None:
    assert node.ask("GET", "/livez").json == {"status": "ok"}
    assert node.ask("GET", "/readyz").json == {"status": "ok"}
    assert node.ask("GET", "/version").json == {"version": node_package.__version__, "api": "v1"}
    page = node.ask("GET", "/docs").body.decode()
    assert not re.search(r'(?:src|href)\s*=\s*"https?:', page), "the page must need no internet"
    assert 'fetch("openapi.json")' in page


def test_metrics_count_requests_and_commits(node: ServedNode, ledger: str) -> None:
    node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/a", {"n": 1})
    text = node.ask("GET", "/metrics").body.decode()
    route = "/v1/ledgers/{ledger}/tables/{table}/documents/{key}"
    assert f'stele_http_request_seconds_count{{method="PUT",route="{route}",status="201"}}' in text
    assert f'stele_ledger_blocks{{ledger="{ledger}"}} 3.0' in text
    assert 'stele_raft_role{role="leader"} 1.0' in text
    assert "stele_commit_group_commands_bucket" in text
    assert "stele_asyncio_tasks " in text


def test_a_request_id_is_taken_over_or_made(node: ServedNode) -> None:
    assert node.ask("GET", "/livez", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    made = {node.ask("GET", "/livez").headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3
    assert node.ask("GET", "/livez", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"
