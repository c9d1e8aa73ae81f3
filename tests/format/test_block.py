"""Block bytes: each builder equals canonical JSON of the same members."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format import block
from stele.format.canonical import canonicalize
from stele.format.errors import InvalidHeader
from stele.format.limits import HEADER_SIZE_BYTES_MAX, INTEGER_MAX
from stele.format.merkle import EMPTY_ROOT
from stele.format.times import format_time

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
COUNTS = st.integers(0, INTEGER_MAX)
HASHES = st.binary(min_size=32, max_size=32)
IDS = st.binary(min_size=16, max_size=16)
TIMES = st.integers(0, 253_402_300_799_999_999)
HEADERS = st.fixed_dictionaries(
    {
        "ledger": IDS,
        "seq": st.integers(1, INTEGER_MAX),
        "prev": HASHES,
        "at_us": TIMES,
        "tx": IDS,
        "information_hash": HASHES,
        "revision_count": COUNTS,
        "revision_root": HASHES,
    }
)
GENESIS = st.fixed_dictionaries(
    {"ledger": IDS, "name": TEXT, "at_us": TIMES, "tx": IDS, "information_hash": HASHES}
)


@given(TEXT, TEXT, COUNTS, st.sampled_from(["put", "delete"]), st.none() | COUNTS, HASHES)
def test_leaf(table: str, key: str, version: int, op: Any, prev_seq: int | None, commitment: bytes) -> None:
    members = {
        "commitment": commitment.hex(),
        "key": key,
        "op": op,
        "prev_seq": prev_seq,
        "table": table,
        "version": version,
    }
    written = block.leaf_bytes(table, key, version, op, prev_seq, commitment.hex())
    assert written == canonicalize(members)


@given(TEXT, st.none() | TEXT)
def test_information(by: str, idempotency_key: str | None) -> None:
    members = {"by": by}
    if idempotency_key is not None:
        members["idempotency_key"] = idempotency_key
    assert block.information_bytes(by, idempotency_key) == canonicalize(members)


@given(HEADERS)
def test_header(fields: dict[str, Any]) -> None:
    members = {
        "at": format_time(fields["at_us"]),
        "format": 1,
        "info": fields["information_hash"].hex(),
        "kind": "tx",
        "ledger": fields["ledger"].hex(),
        "prev": fields["prev"].hex(),
        "revision_count": fields["revision_count"],
        "revision_root": fields["revision_root"].hex(),
        "seq": fields["seq"],
        "tx": fields["tx"].hex(),
    }
    written = block.header_bytes(**fields)
    assert written == canonicalize(members)
    parsed = block.parse_header(written)
    assert parsed.at_us == fields["at_us"]
    assert (parsed.kind, parsed.seq, parsed.tx) == ("tx", fields["seq"], fields["tx"].hex())
    assert parsed.name is None


@given(GENESIS)
def test_genesis_header(fields: dict[str, Any]) -> None:
    members = {
        "at": format_time(fields["at_us"]),
        "codec": "json-rfc8785",
        "format": 1,
        "hash_profile": "rfc6962-sha256",
        "info": fields["information_hash"].hex(),
        "kind": "genesis",
        "ledger": fields["ledger"].hex(),
        "name": fields["name"],
        "prev": "00" * 32,
        "revision_count": 0,
        "revision_root": EMPTY_ROOT.hex(),
        "seq": 0,
        "tx": fields["tx"].hex(),
    }
    written = block.genesis_header_bytes(**fields)
    assert written == canonicalize(members)
    assert block.parse_header(written).name == fields["name"]


@given(HEADERS, st.data())
def test_a_changed_header_is_refused_or_says_something_else(fields: dict[str, Any], data: Any) -> None:
    written = block.header_bytes(**fields)
    position = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != written[position]))
    changed = written[:position] + bytes([byte]) + written[position + 1 :]
    try:
        parsed = block.parse_header(changed)
    except InvalidHeader:
        return
    assert parsed != block.parse_header(written)


@given(HEADERS, st.binary(min_size=32, max_size=32))
def test_seal_header(fields: dict[str, Any], state_root: bytes) -> None:
    own = {name: fields[name] for name in ("ledger", "seq", "prev", "at_us", "tx", "information_hash")}
    written = block.seal_header_bytes(**own, state_root=state_root)
    parsed = block.parse_header(written)
    assert written == canonicalize(msgspec.to_builtins(parsed))
    assert (parsed.kind, parsed.state_root, parsed.revision_count) == ("seal", state_root.hex(), 0)
    assert parsed.revision_root == EMPTY_ROOT.hex()


def variants() -> dict[str, bytes]:
    seal = block.seal_header_bytes(
        ledger=bytes(16), seq=7, prev=bytes(32), at_us=0, tx=bytes(16), information_hash=bytes(32),
        state_root=bytes(32),
    )  # fmt: skip
    good = block.header_bytes(
        ledger=bytes(16), seq=7, prev=bytes(32), at_us=0, tx=bytes(16), information_hash=bytes(32),
        revision_count=0, revision_root=EMPTY_ROOT,
    )  # fmt: skip
    genesis = block.genesis_header_bytes(
        ledger=bytes(16), name="x", at_us=0, tx=bytes(16), information_hash=bytes(32)
    )
    return {
        "space": good.replace(b",", b", ", 1),
        "repeated member": good.replace(b'"format":1', b'"format":1,"format":1'),
        "extra member": good.replace(b'"format":1', b'"extra":1,"format":1'),
        "missing member": good.replace(b'"format":1,', b""),
        "null name": good.replace(b'"prev"', b'"name":null,"prev"'),
        "name outside genesis": good.replace(b'"prev"', b'"name":"x","prev"'),
        "other format": good.replace(b'"format":1', b'"format":2'),
        "number as text": good.replace(b'"seq":7', b'"seq":"7"'),
        "state root in a transaction": seal.replace(b'"seal"', b'"tx"'),
        "seal without state root": good.replace(b'"kind":"tx"', b'"kind":"seal"'),
        "seal with revisions": seal.replace(b'"revision_count":0', b'"revision_count":1'),
        "float": good.replace(b'"seq":7', b'"seq":7.0'),
        "capital hex": good.replace(b'"info":"00', b'"info":"0A'),
        "time with offset": good.replace(b"000000Z", b"000000+00:00"),
        "genesis later": good.replace(b'"tx",', b'"genesis",'),
        "tx at 0": good.replace(b'"seq":7', b'"seq":0'),
        "other codec": genesis.replace(b"json-rfc8785", b"ion"),
        "long": block.genesis_header_bytes(
            ledger=bytes(16),
            name="x" * HEADER_SIZE_BYTES_MAX,
            at_us=0,
            tx=bytes(16),
            information_hash=bytes(32),
        ),
        "not utf-8": genesis.replace(b'"x"', b'"\xff"'),
        "nothing": b"",
    }


@pytest.mark.parametrize("why", variants())
def test_refused_headers(why: str) -> None:
    with pytest.raises(InvalidHeader):
        block.parse_header(variants()[why])


def test_commitment_is_salted_sha256() -> None:
    salt, payload = bytes(range(32)), b'{"a":1}'
    assert block.commitment(salt, payload) == hashlib.sha256(salt + payload).digest()
    assert block.commitment(salt, b"") == hashlib.sha256(salt).digest()
    with pytest.raises(ValueError, match="32 bytes"):
        block.commitment(salt[:31], payload)
