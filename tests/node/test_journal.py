"""Blocks, proofs, checkpoints and export, checked with the independent verifier."""

from __future__ import annotations

import json

import msgspec
import pytest

from node.http import schemas
from stele.verify.checkpoint import parse_checkpoint, parse_checkpoint_text
from stele.verify.export import verify_export
from stele.verify.merkle import verify_consistency, verify_inclusion
from stele.verify.note import VerifierKey, split_note
from tests.node.served import ServedNode


@pytest.fixture
def filled(node: ServedNode, ledger: str) -> str:
    """A ledger of nine blocks, one of them with several revisions and one with a delete."""
    base = f"/v1/ledgers/{ledger}"
    for n in range(5):
        node.ask("PUT", f"{base}/tables/cars/documents/k{n % 3}", {"n": n})
    operations = [{"op": "put", "table": "cars", "key": f"t{n}", "data": {"n": n}} for n in range(5)]
    assert node.ask("POST", f"{base}/transactions", {"operations": operations}).status == 200
    assert node.ask("DELETE", f"{base}/tables/cars/documents/k0").status == 200
    return ledger


def key_of(node: ServedNode, ledger: str) -> VerifierKey:
    return VerifierKey.parse(node.ask("GET", f"/v1/ledgers/{ledger}").json["verifier_key"])


def test_a_full_export_verifies(node: ServedNode, filled: str) -> None:
    answer = node.ask("GET", f"/v1/ledgers/{filled}/export")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = answer.body.splitlines()
    assert len(lines) == 1 + 10
    report = verify_export(lines, key_of(node, filled))
    assert (report.blocks, report.size) == (10, 10)
    assert (report.seals, report.state_checked) == (1, True)


def test_an_export_is_the_blocks(node: ServedNode, filled: str) -> None:
    lines = node.ask("GET", f"/v1/ledgers/{filled}/export?from=3&to=6").body.splitlines()
    head, *blocks = [json.loads(line) for line in lines]
    assert (head["from"], head["to"], head["size"], head["checkpoint"]) == (3, 6, 9, None)
    assert blocks == [node.ask("GET", f"/v1/ledgers/{filled}/blocks/{seq}").json for seq in (3, 4, 5)]
    assert node.ask("GET", f"/v1/ledgers/{filled}/export?to=10").slug == "block-unknown"
    assert node.ask("GET", f"/v1/ledgers/{filled}/export?from=5&to=4").slug == "block-unknown"
    empty = node.ask("GET", f"/v1/ledgers/{filled}/export?from=9&to=9").body.splitlines()
    assert len(empty) == 1


def test_blocks_are_paged(node: ServedNode, filled: str) -> None:
    path = f"/v1/ledgers/{filled}/blocks"
    page = node.ask("GET", f"{path}?limit=4")
    msgspec.json.decode(page.body, type=schemas.Blocks)
    assert [block["header"]["seq"] for block in page.json["blocks"]] == [0, 1, 2, 3]
    assert page.json["next"] == 4
    last = node.ask("GET", f"{path}?from=4&limit=10").json
    assert [block["header"]["seq"] for block in last["blocks"]] == [4, 5, 6, 7, 8]
    assert "next" not in last
    assert node.ask("GET", f"{path}?from=9").json == {"blocks": []}
    assert node.ask("GET", f"{path}/9").slug == "block-unknown"


def test_a_delete_has_no_data_in_its_block(node: ServedNode, filled: str) -> None:
    (revision,) = node.ask("GET", f"/v1/ledgers/{filled}/blocks/8").json["revisions"]
    assert revision["leaf"]["op"] == "delete"
    assert "data" not in revision


def test_the_checkpoint_is_signed_once_a_seal(node: ServedNode, filled: str) -> None:
    path = f"/v1/ledgers/{filled}/checkpoint"
    first = node.ask("GET", path)
    assert first.headers["Content-Type"].startswith("text/plain")
    origin = f"stele/{filled}"
    checkpoint = parse_checkpoint(first.body.decode(), key_of(node, filled), origin)
    assert checkpoint.size == 10
    assert parse_checkpoint(node.ask("GET", path).body.decode(), key_of(node, filled), origin) == checkpoint
    store = node.node.services.store
    info = store.ledger(filled)
    assert info is not None
    kept = store.checkpoints.note(info.number, checkpoint.size)
    assert kept is not None
    assert first.body.decode().startswith(kept)


def test_a_checkpoint_is_found_by_its_size(node: ServedNode, filled: str) -> None:
    base = f"/v1/ledgers/{filled}"
    # Cosigned, so that what is kept stays as it is from here on.
    note = node.ask("GET", f"{base}/checkpoint?cosignatures=1").body
    size = parse_checkpoint_text(split_note(note)[0]).size
    kept = node.ask("GET", f"{base}/checkpoints").json["checkpoints"]
    assert [each["size"] for each in kept] == [size]
    assert node.ask("GET", f"{base}/checkpoints?size={size}").json == {"checkpoints": kept}
    assert node.ask("GET", f"{base}/checkpoints?size={size - 1}").slug == "checkpoint-unknown"


def test_a_checkpoint_stays_until_the_next_seal(node: ServedNode, filled: str) -> None:
    path = f"/v1/ledgers/{filled}/checkpoint"
    first = split_note(node.ask("GET", path).body)[0]
    node.ask("PUT", f"/v1/ledgers/{filled}/tables/cars/documents/later", {"n": 1})
    assert split_note(node.ask("GET", path).body)[0] == first
    proof = node.ask("GET", f"/v1/ledgers/{filled}/tables/cars/documents/later?proof=true").json["proof"]
    assert parse_checkpoint_text(split_note(proof["checkpoint"])[0]).size == 12
    assert split_note(node.ask("GET", path).body)[0] == split_note(proof["checkpoint"])[0]


def test_inclusion_and_consistency_proofs_hold(node: ServedNode, filled: str) -> None:
    base, key, origin = f"/v1/ledgers/{filled}", key_of(node, filled), f"stele/{filled}"
    old = parse_checkpoint(node.ask("GET", f"{base}/checkpoint").body.decode(), key, origin)
    node.ask("PUT", f"{base}/tables/cars/documents/later", {"n": 1})
    node.ask("GET", f"{base}/tables/cars/documents/later?proof=true")
    new = parse_checkpoint(node.ask("GET", f"{base}/checkpoint").body.decode(), key, origin)
    proof = node.ask("GET", f"{base}/proofs/consistency?from={old.size}&to={new.size}").json
    path = [bytes.fromhex(each) for each in proof["path"]]
    verify_consistency(old.size, new.size, path, old.root, new.root)
    for seq in range(new.size):
        proof = node.ask("GET", f"{base}/proofs/inclusion?seq={seq}").json
        path = [bytes.fromhex(each) for each in proof["path"]]
        verify_inclusion(bytes.fromhex(proof["leaf_hash"]), seq, proof["size"], path, new.root)


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("inclusion", "invalid-parameter"),
        ("inclusion?seq=9", "block-unknown"),
        ("inclusion?seq=3&size=3", "block-unknown"),
        ("inclusion?seq=0&size=10", "block-unknown"),
        ("inclusion?seq=0&size=0", "invalid-parameter"),
        ("consistency?from=0", "invalid-parameter"),
        ("consistency?from=5&to=4", "block-unknown"),
        ("consistency?from=5&to=10", "block-unknown"),
        ("state?table=cars", "invalid-parameter"),
        ("state?table=c/rs&key=a", "invalid-parameter"),
        ("state?table=cars&key=..", "invalid-parameter"),
        ("state?table=cars&key=" + "%C3%A4" * 257, "invalid-parameter"),
        ("exclusion", "route-unknown"),
    ],
)
def test_proofs_that_do_not_exist(node: ServedNode, filled: str, query: str, slug: str) -> None:
    assert node.ask("GET", f"/v1/ledgers/{filled}/proofs/{query}").slug == slug
