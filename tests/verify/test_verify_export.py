"""Exports: whole ones verify, and no change to one is accepted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format.canonical import canonicalize, parse
from stele.format.errors import CanonicalError
from stele.format.note import checkpoint_text, sign_note
from stele.verify import limits
from stele.verify.errors import (
    BrokenChain,
    Incomplete,
    InvalidSignature,
    Malformed,
    Mismatch,
    Unsigned,
    VerificationError,
)
from stele.verify.export import ExportVerifier, verify_export
from stele.verify.note import VerifierKey
from tests.verify.journal import KEY, LEDGER, START_US, VERIFIER, Journal, Members, Write, at, sample, to_line

JOURNAL = sample()
LINES = JOURNAL.export()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def refused(lines: list[bytes], trust: VerifierKey | None = VERIFIER, **options: Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify_export(lines, trust, **options)
    return caught.value


def test_a_full_export_verifies() -> None:
    report = verify_export(LINES, VERIFIER, ledger_id=LEDGER.hex())
    assert (report.blocks, report.size, report.root) == (JOURNAL.size, JOURNAL.size, JOURNAL.root())
    assert report.revisions == sum(len(served["revisions"]) for served in JOURNAL.blocks)
    assert report.keys == len(JOURNAL.newest)
    assert (report.name, report.ledger) == ("registry", LEDGER.hex())
    assert (report.first_at, report.last_at) == (at(0), at(JOURNAL.size - 1))
    assert report.checkpoint is not None
    assert report.checkpoint.root == JOURNAL.root()


def test_without_a_key_or_history() -> None:
    report = verify_export(LINES, None, history=False)
    assert (report.checkpoint, report.keys, report.root) == (None, None, JOURNAL.root())


def test_spacing_order_and_escapes_of_members_do_not_matter() -> None:
    lines = [json.dumps(json.loads(line), sort_keys=True, indent=None).encode() for line in LINES]
    assert verify_export(lines, VERIFIER).root == JOURNAL.root()


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.none() | st.dictionaries(TEXT, JSON, max_size=4)), max_size=3
        ),
        max_size=6,
    )
)
def test_any_honest_journal_verifies(transactions: list[list[tuple[int, Members | None]]]) -> None:
    journal = Journal()
    table = journal.create_table("t")
    for writes in transactions:
        journal.append([Write(table, f"key-{number}", data) for number, data in writes])
    assert verify_export(journal.export(), VERIFIER).blocks == len(transactions) + 2


def test_progress_is_told() -> None:
    journal = Journal()
    for _ in range(limits.PROGRESS_EVERY_BLOCKS + 1):
        journal.append([])
    calls: list[tuple[int, int]] = []
    verify_export(journal.export(), VERIFIER, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(limits.PROGRESS_EVERY_BLOCKS, journal.size), (journal.size, journal.size)]


def test_a_part_of_the_journal_verifies_without_a_key_only() -> None:
    report = verify_export(JOURNAL.export(3, 7), None)
    assert (report.first_seq, report.blocks, report.root) == (3, 4, None)
    assert isinstance(refused(JOURNAL.export(3, 7)), Incomplete)
    assert isinstance(refused(JOURNAL.export(0, 7)), Incomplete)
    assert isinstance(refused(JOURNAL.export(3)), Incomplete)


def meaning(line: bytes) -> object:
    try:
        return parse(line, size_bytes_max=len(line))[1]
    except CanonicalError:
        return None


@given(st.data())
def test_no_changed_byte_is_accepted(data: Any) -> None:
    number = data.draw(st.integers(0, len(LINES) - 1))
    line = LINES[number]
    position = data.draw(st.integers(0, len(line) - 2))
    how = data.draw(st.sampled_from(["replace", "insert", "delete"]))
    byte = bytes([data.draw(st.integers(0, 255) | st.sampled_from(b'0123456789abcdef",:{}[] \\u'))])
    kept = line[position + (how != "insert") :]
    changed = line[:position] + (b"" if how == "delete" else byte) + kept
    lines = [*LINES[:number], changed, *LINES[number + 1 :]]
    if meaning(changed) == meaning(line):
        return  # a space between members, 1e-07 for 1e-7: it says the same
    refused(lines)
    refused(lines, history=False)
    if number > 0 and number != len(LINES) - 1:
        refused(lines, None)  # the chain alone shows it too, but for what only the last header or line 0 says


@given(st.permutations(range(1, len(LINES))), st.integers(0, len(LINES)))
def test_no_other_order_or_end_is_accepted(order: list[int], end: int) -> None:
    lines = [LINES[0], *(LINES[number] for number in order)][:end]
    if lines != LINES:
        refused(lines)
        refused(lines, None)


@given(st.integers(1, len(LINES) - 1), st.integers(1, len(LINES) - 1))
def test_missing_and_repeated_blocks(number: int, other: int) -> None:
    refused(LINES[:number] + LINES[number + 1 :])
    refused([*LINES[:number], LINES[other], *LINES[number:]])
    refused([*LINES[:number], LINES[other], *LINES[number + 1 :]]) if number != other else None


@given(st.data())
def test_no_truncated_file_is_accepted(data: Any) -> None:
    whole = b"".join(LINES)
    end = data.draw(st.integers(0, len(whole) - 2))
    refused(whole[:end].splitlines(keepends=True))


def rewritten(change: Callable[[Members], None]) -> list[bytes]:
    """The export with one block changed in place and nothing hashed again."""
    blocks = copy.deepcopy(JOURNAL.blocks)
    change(blocks[4])
    return [LINES[0], *map(to_line, blocks)]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda b: b["header"].update(prev="00" * 32), BrokenChain),
        (lambda b: b["header"].update(seq=5), BrokenChain),
        (lambda b: b["header"].update(at=at(2)), BrokenChain),
        (lambda b: b["header"].update(at="2026-11-23T13:35:31Z"), Malformed),
        (lambda b: b["header"].update(ledger="00" * 16), Mismatch),
        (lambda b: b["header"].update(kind="genesis"), Mismatch),
        (lambda b: b["header"].update(revision_count=4), Mismatch),
        (lambda b: b["header"].update(revision_root="00" * 32), Mismatch),
        (lambda b: b["header"].update(tx="00"), Malformed),
        (lambda b: b["header"].update(name="registry"), Malformed),
        (lambda b: b["header"].update(seq=4.0), Malformed),
        (lambda b: b["header"].update(format=2), Malformed),
        (lambda b: b["header"].update(extra=1), Malformed),
        (lambda b: b["info"].update(by="someone"), Mismatch),
        (lambda b: b["info"].pop("idempotency_key"), Mismatch),
        (lambda b: b["revisions"].reverse(), Mismatch),
        (lambda b: b["revisions"].pop(), Mismatch),
        (lambda b: b["revisions"][0].update(salt="00" * 32), Mismatch),
        (lambda b: b["revisions"][0].update(salt=b["revisions"][0]["salt"].upper()), Malformed),
        (lambda b: b["revisions"][0].update(salt="00" * 31), Malformed),
        (lambda b: b["revisions"][0]["data"].update(make="Lada"), Mismatch),
        (lambda b: b["revisions"][0].pop("data"), Malformed),
        (lambda b: b["revisions"][0].update(data=[]), Malformed),
        (lambda b: b["revisions"][0].update(extra=1), Malformed),
        (lambda b: b["revisions"][0]["leaf"].update(op="delete"), Malformed),
        (lambda b: b["revisions"][0]["leaf"].update(key="vin-3"), Mismatch),
        (lambda b: b["revisions"][0]["leaf"].update(version=7), BrokenChain),
        (lambda b: b["revisions"][0]["leaf"].update(version=True), Malformed),
        (lambda b: b.update(extra=1), Malformed),
        (lambda b: b.pop("info"), Malformed),
    ],
)
def test_each_change_is_named(change: Callable[[Members], None], error: type[VerificationError]) -> None:
    found = refused(rewritten(change))
    assert type(found) is error
    assert str(found).startswith("block 4: ")


def forged(build: Callable[[Journal, str], None]) -> list[bytes]:
    """An export in which everything is hashed and signed correctly, but the log itself lies."""
    journal = Journal()
    table = journal.create_table("t")
    journal.append([Write(table, "k", {"n": 0})])
    build(journal, table)
    return journal.export()


@pytest.mark.parametrize(
    "build",
    [
        lambda journal, table: journal.append([Write(table, "k", {}, version=2)]),
        lambda journal, table: journal.append([Write(table, "k", {}, version=1, prev_seq=1)]),
        lambda journal, table: journal.append([Write(table, "k", {}, version=0, prev_seq=None)]),
        lambda journal, table: journal.append([Write(table, "new", {}, version=1, prev_seq=2)]),
        lambda journal, table: journal.append([Write(table, "new", {}), Write(table, "new", {}, version=0)]),
        lambda journal, table: journal.append([Write("u@2", "k", {})]),
        lambda journal, table: journal.append([Write("t@2", "k", {})]),
        lambda journal, table: journal.append([Write("t@" + "9" * 5000, "k", {})]),
        lambda journal, table: journal.append([Write(table, "k", {})], at_us=START_US),
    ],
)
def test_a_lying_log_is_noticed(build: Callable[[Journal, str], None]) -> None:
    assert isinstance(refused(forged(build)), BrokenChain)


@pytest.mark.parametrize(
    "build",
    [
        lambda journal, table: journal.append([Write(table, "k", {}, version=1, prev_seq=None)]),
        lambda journal, table: journal.append([Write(table, "new", {}, version=0, prev_seq=2)]),
        lambda journal, table: journal.append([Write(table, "k", {}, version=1, prev_seq=9)]),
    ],
)
def test_an_impossible_prev_seq_is_noticed_without_history(build: Callable[[Journal, str], None]) -> None:
    assert isinstance(refused(forged(build), history=False), BrokenChain)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"name":"registry"', b'"name":"another"'),
        (b'"name":"registry",', b""),
        (b'"json-rfc8785"', b'"ion"'),
        (b'"codec":"json-rfc8785",', b""),
        (b'"rfc6962-sha256"', b'"linear-sha256"'),
        (b'"kind":"genesis"', b'"kind":"tx"'),
        (b'"prev":"00', b'"prev":"01'),
    ],
)
def test_a_genesis_block_of_another_form_is_refused(old: bytes, new: bytes) -> None:
    journal = Journal()
    changed = journal.headers[0].replace(old, new)
    assert changed != journal.headers[0]
    journal.headers[0], journal.blocks[0]["header"] = changed, json.loads(changed)
    journal.create_table("t")
    assert str(refused(journal.export())).startswith("block 0: ")


def test_a_genesis_block_has_no_revisions() -> None:
    donor, journal = Journal(), Journal()
    donor.append([Write("$tables@0", "t", {})])
    served = donor.blocks[1]
    members = {name: served["header"][name] for name in ("revision_count", "revision_root")}
    header = canonicalize({**journal.blocks[0]["header"], **members})
    journal.headers[0] = header
    journal.blocks[0].update(header=json.loads(header), revisions=served["revisions"])
    assert isinstance(refused(journal.export()), Mismatch)


def test_rewritten_history_does_not_fit_the_signed_root() -> None:
    """Everything hashed again from a changed document on; only the signature cannot be made again."""
    other = sample()
    other.blocks, other.headers, other.newest = [], [], {}
    other.__post_init__()
    table = other.create_table("cars")
    for number in range(JOURNAL.size - other.size):
        other.append([Write(table, f"k{number}", {"forged": True})])
    lines = other.export()
    assert other.size == JOURNAL.size
    verify_export(lines, None)
    assert isinstance(refused([LINES[0], *lines[1:]]), Mismatch)


def start_with(**members: Any) -> list[bytes]:
    return [to_line({**JOURNAL.start(), **members}), *LINES[1:]]


def test_the_first_line_must_be_the_journals() -> None:
    size = JOURNAL.size
    assert isinstance(refused(LINES, ledger_id="00" * 16), Mismatch)
    assert isinstance(refused(start_with(ledger="00" * 16)), Mismatch)
    assert isinstance(refused(start_with(name="other")), Mismatch)
    assert isinstance(refused(start_with(checkpoint=None)), Incomplete)
    assert isinstance(refused(start_with(checkpoint=JOURNAL.checkpoint(size - 1))), Mismatch)
    assert isinstance(refused(start_with(size=size + 1)), Incomplete)
    assert isinstance(refused(start_with(to=size + 1, size=size + 1)), Mismatch)
    assert isinstance(refused(start_with(to=size + 1)), Malformed)
    for member in (
        {"export": 2},
        {"name": "a/b"},
        {"ledger": "AB" * 16},
        {"from": -1},
        {"extra": 1},
        {"size": "9"},
    ):
        assert isinstance(refused(start_with(**member)), Malformed)
    assert isinstance(refused(LINES[1:]), Malformed)
    assert isinstance(refused([]), Incomplete)


def test_the_checkpoint_must_be_signed_by_the_key_for_this_ledger() -> None:
    stranger = VerifierKey(VERIFIER.name, VERIFIER.algorithm, bytes(32))
    assert isinstance(refused(LINES, stranger), Unsigned)
    good = JOURNAL.checkpoint()
    assert isinstance(
        refused(start_with(checkpoint=good.replace(f"\n{JOURNAL.size}\n", "\n99\n"))), InvalidSignature
    )
    wrong_root = sign_note(checkpoint_text(KEY.name, JOURNAL.size, bytes(32)), KEY)
    found = refused(start_with(checkpoint=wrong_root))
    assert isinstance(found, Mismatch)
    assert (found.expected, found.found) == (bytes(32), JOURNAL.root())
    # One key signs every ledger of a cluster, so a journal of another name must not pass for this one.
    assert isinstance(refused(Journal(name="other").export()), Mismatch)
    elsewhere = sign_note(checkpoint_text("cluster/other", JOURNAL.size, JOURNAL.root()), KEY)
    assert isinstance(refused(start_with(checkpoint=elsewhere)), Mismatch)


LINE_4 = LINES[5]


@pytest.mark.parametrize(
    ("where", "repeated"),
    [
        (b'{"header":', b'{"info":{},"header":'),
        (b'"header":{', b'"header":{"seq":99,'),
        (b'"info":{', b'"info":{"by":"someone",'),
        (b'"revisions":[{', b'"revisions":[{"salt":"00",'),
        (b'"revisions":[{', b'"revisions":[{"data":{"forged":1},'),
        (b'"revisions":[{', b'"revisions":[{"data":{"\\u003a":1},'),
        (b'"leaf":{', b'"leaf":{"key":"other",'),
        (b'"data":{', b'"data":{"make":"Lada",'),
        (b'"data":{', b'"data":{"m\\u0061ke":"Lada",'),
    ],
)
def test_a_member_that_stands_twice_is_refused(where: bytes, repeated: bytes) -> None:
    """JSON readers differ in which of two they take, so what one checks another may not read."""
    assert where in LINE_4
    line = LINE_4.replace(where, repeated, 1)
    assert isinstance(refused([*LINES[:5], line, *LINES[6:]]), Malformed)


def test_a_member_that_stands_twice_in_the_first_line_is_refused() -> None:
    line = LINES[0].replace(b'{"export":1', b'{"name":"other","export":1')
    assert isinstance(refused([line, *LINES[1:]]), Malformed)


def test_lines_have_a_bound() -> None:
    padded = LINES[1].rstrip().ljust(limits.EXPORT_LINE_SIZE_BYTES_MAX)
    assert verify_export([LINES[0], padded, *LINES[2:]], VERIFIER).root == JOURNAL.root()
    assert "bytes" in str(refused([LINES[0], padded + b" ", *LINES[2:]]))
    padded = LINES[0].rstrip().ljust(limits.EXPORT_START_SIZE_BYTES_MAX)
    assert verify_export([padded, *LINES[1:]], VERIFIER).root == JOURNAL.root()
    assert "bytes" in str(refused([padded + b" ", *LINES[1:]]))


@pytest.mark.parametrize(
    "junk", [b"", b"\n", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"header":' * 9]
)
def test_junk_is_malformed(junk: bytes) -> None:
    assert isinstance(refused([junk]), Malformed)
    assert isinstance(refused([LINES[0], junk]), Malformed)


def test_lines_can_be_fed_as_they_arrive() -> None:
    verifier = ExportVerifier(VERIFIER)
    assert verifier.blocks == verifier.blocks_done == 0
    for line in LINES[:-1]:
        verifier.feed(line)
    with pytest.raises(Incomplete):
        verifier.finish()
    verifier.feed(LINES[-1])
    assert verifier.blocks == verifier.blocks_done == JOURNAL.size
    assert verifier.finish().root == JOURNAL.root()
    with pytest.raises(Malformed):
        verifier.feed(LINES[-1])
