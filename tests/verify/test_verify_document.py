"""A document answer is accepted only when every part of it is what the ledger committed to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format.canonical import canonicalize
from stele.verify.checkpoint import TrustPolicy
from stele.verify.document import verify_document
from stele.verify.errors import BrokenChain, InvalidProof, Malformed, Mismatch, Unsigned, VerificationError
from stele.verify.note import VerifierKey
from tests.verify.journal import LEDGER, VERIFIER, Journal, Members, Write, sample

JOURNAL = sample()
PUTS = [
    (seq, index)
    for seq, served in enumerate(JOURNAL.blocks)
    for index, revision in enumerate(served["revisions"])
    if "data" in revision and revision["leaf"]["table"] != "$tables@0"
]


def table_of(answer: Members) -> str:
    table = answer["proof"]["leaf"]["table"]
    assert isinstance(table, str)
    return table.partition("@")[0]


def check(
    answer: Members,
    *,
    ledger_id: str = LEDGER.hex(),
    table: str | None = None,
    key: str | None = None,
    trust: VerifierKey = VERIFIER,
) -> None:
    """Verify an answer to the question it claims to answer, but for what is given."""
    table = table_of(answer) if table is None else table
    verify_document(answer, ledger_id, table, answer["key"] if key is None else key, trust)


@pytest.mark.parametrize(("seq", "index"), PUTS)
def test_every_document_of_the_journal_verifies(seq: int, index: int) -> None:
    answer = JOURNAL.answer(seq, index)
    key = answer["key"]
    checkpoint = verify_document(answer, LEDGER.hex(), table_of(answer), key, TrustPolicy(VERIFIER))
    assert (checkpoint.size, checkpoint.root) == (JOURNAL.size, JOURNAL.root())


def test_the_ledger_and_table_may_stand_in_the_answer() -> None:
    answer = {**JOURNAL.answer(3, 0), "ledger": "registry", "table": "cars"}
    check(answer)
    for member in ("ledger", "table"):
        with pytest.raises(Mismatch):
            check({**answer, member: "other"}, table="cars")


def test_asking_for_something_else_is_noticed() -> None:
    answer = JOURNAL.answer(3, 0)
    with pytest.raises(Mismatch):
        check(answer, ledger_id="00" * 16)
    with pytest.raises(Mismatch):
        check(answer, table="people")
    with pytest.raises(Mismatch):
        check(answer, table="cars@1")
    with pytest.raises(Mismatch):
        check(answer, key="vin-2")
    stranger = VerifierKey(VERIFIER.name, VERIFIER.algorithm, bytes(32))
    with pytest.raises(Unsigned):
        check(answer, trust=stranger)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside, containers too."""
    inner: list[tuple[str | int, ...]] = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in items:
        inner += places(member, (*path, name))
    return inner


ANSWER = JOURNAL.answer(4, 1)


@pytest.mark.parametrize(
    ("member", "value", "what"),
    [
        ("key", "vin-9", "key of the answer"),
        ("version", 1, "version"),
        ("seq", 4, "seq"),
        ("tx", "00" * 16, "tx"),
        ("at", "2026-11-18T11:06:41.000000Z", "at"),
        ("data", {"make": "Lada"}, "commitment to the data"),
    ],
)
def test_each_claim_is_compared_with_the_proof(member: str, value: Any, what: str) -> None:
    answer = JOURNAL.answer(3, 0)
    with pytest.raises(Mismatch) as caught:
        check({**answer, member: value}, key=answer["key"])
    assert caught.value.what == what


def test_the_proof_is_about_the_key_asked_for() -> None:
    with pytest.raises(Mismatch) as caught:
        check({**JOURNAL.answer(3, 0), "key": "vin-9"}, key="vin-9")
    assert (caught.value.what, caught.value.expected, caught.value.found) == (
        "key of the leaf",
        "vin-9",
        "vin-1",
    )


def test_the_proof_states_the_checkpoints_size() -> None:
    answer = JOURNAL.answer(3, 0)
    with pytest.raises(Mismatch, match="size of the checkpoint"):
        check({**answer, "proof": {**answer["proof"], "size": JOURNAL.size + 1}})


@pytest.mark.parametrize("data", [{"n": float("nan")}, {"n": 2**53}, {"n": "\ud800"}, {"n": b""}])
def test_data_without_canonical_form_is_malformed(data: Members) -> None:
    with pytest.raises(Malformed):
        check({**JOURNAL.answer(3, 0), "data": data})


def test_text_that_utf8_cannot_hold_is_malformed() -> None:
    answer = JOURNAL.answer(3, 0)
    leaf = {**answer["proof"]["leaf"], "key": "\ud800"}
    with pytest.raises(Malformed):
        check({**answer, "key": "\ud800", "proof": {**answer["proof"], "leaf": leaf}})


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JUNK: st.SearchStrategy[Any] = st.one_of(SCALARS, st.builds(list), st.builds(dict))


def changed(value: Any) -> Any:
    """Strategies of values close to the right one, where errors hide best."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.sampled_from([value + 1, value - 1, -value - 1, float(value), str(value), 2**64])
    if isinstance(value, str) and value:
        return st.sampled_from(
            [
                value[:-1],
                value + value[-1],
                value.upper(),
                value + " ",
                value + "\n",
                chr(ord(value[0]) ^ 1) + value[1:],
            ]
        )
    return JUNK


@given(st.data())
def test_no_changed_answer_is_accepted(data: Any) -> None:
    answer = copy.deepcopy(ANSWER)
    path = data.draw(st.sampled_from(places(answer)))
    *parents, last = path
    holder: Any = answer
    for name in parents:
        holder = holder[name]
    if data.draw(st.booleans()):
        holder[last] = data.draw(JUNK | changed(holder[last]))
    else:
        del holder[last]
    if says_the_same(answer):
        return
    with pytest.raises(VerificationError):
        check(answer, table="people", key=ANSWER["key"])


def says_the_same(answer: Members) -> bool:
    """Only data may be spelled in two ways (1.0 for 1): what is committed to is its canonical form."""
    try:
        same_data = canonicalize(answer.get("data")) == canonicalize(ANSWER["data"])
    except ValueError:
        return False
    return same_data and repr({**answer, "data": 0}) == repr({**ANSWER, "data": 0})


@pytest.mark.parametrize("junk", [None, [], 3, "x", {}, {"proof": {}}, {"key": 1}])
def test_junk_is_malformed(junk: Any) -> None:
    with pytest.raises(Malformed):
        verify_document(junk, LEDGER.hex(), "cars", "vin-1", VERIFIER)


def test_a_proof_of_another_revision_is_noticed() -> None:
    old, new = JOURNAL.answer(3, 0), JOURNAL.answer(4, 2)
    assert old["key"] == new["key"]
    with pytest.raises(VerificationError):
        check({**new, "proof": old["proof"]})
    with pytest.raises(Mismatch):
        check({**new, "data": old["data"]})


def test_a_path_of_another_place_is_noticed() -> None:
    answer = JOURNAL.answer(4, 1)
    shorter = answer["proof"]["leaf_path"][:-1]
    parts: list[Members] = [{"leaf_index": 0}, {"leaf_path": shorter}, {"path": []}]
    for part in parts:
        with pytest.raises(InvalidProof):
            check({**answer, "proof": {**answer["proof"], **part}}, table="people")
    with pytest.raises(Malformed):
        check({**answer, "proof": {**answer["proof"], "path": ["00" * 32] * 65}}, table="people")


def forged(write: Write) -> Members:
    """An answer in which everything is hashed and signed correctly, but the log lies about `write`."""
    journal = Journal()
    journal.create_table("cars")
    seq = journal.append([write])
    return journal.answer(seq, 0)


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (Write("cars@1", "k", {"a": 1}, version=1, prev_seq=None), BrokenChain),
        (Write("cars@1", "k", {"a": 1}, version=0, prev_seq=1), BrokenChain),
        (Write("cars@1", "k", {"a": 1}, version=1, prev_seq=3), BrokenChain),
        (Write("cars@9", "k", {"a": 1}), BrokenChain),
        (Write("cars", "k", {"a": 1}), Malformed),
        (Write("cars@01", "k", {"a": 1}), Malformed),
        (Write("cars@" + "9" * 5000, "k", {"a": 1}), Malformed),
    ],
)
def test_a_lying_log_is_noticed(write: Write, error: type[VerificationError]) -> None:
    with pytest.raises(error):
        check(forged(write), table="cars")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", "registry"),
        ("codec", "json-rfc8785"),
        ("kind", "genesis"),
        ("tx", "00" * 15 + "0A"),
        ("tx", "00" * 17),
        ("at", "2026-11-23T13:35:31Z"),
        ("at", "2026-11-23T13:35:31.000000+00:00"),
        ("at", "2026-02-30T13:35:31.000000Z"),
    ],
)
def test_a_header_of_another_form_is_noticed(member: str, value: str) -> None:
    """Hashed and signed as if it were right."""
    journal = Journal()
    table = journal.create_table("cars")
    seq = journal.append([Write(table, "k", {"a": 1})])
    header = {**journal.blocks[seq]["header"], member: value}
    journal.headers[seq] = canonicalize(header)
    journal.blocks[seq]["header"] = header
    with pytest.raises(Mismatch if member == "kind" else Malformed):
        check(journal.answer(seq, 0))


def test_a_delete_is_no_document() -> None:
    answer = JOURNAL.answer(3, 0)
    leaf = {**answer["proof"]["leaf"], "op": "delete"}
    with pytest.raises(Mismatch):
        check({**answer, "proof": {**answer["proof"], "leaf": leaf}})
