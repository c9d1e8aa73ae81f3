"""A receipt is accepted only when it tells the truth about the journal, whatever is done to it."""

from __future__ import annotations

import copy
import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.verify.errors import (
    BrokenChain,
    Incomplete,
    InvalidProof,
    Malformed,
    Mismatch,
    Unsigned,
    VerificationError,
)
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy
from stele.verify.proof import ProofVerifier
from stele.verify.receipt import ReceiptVerifier, verify_receipt
from tests.verify.claims import (
    ALL,
    COSIGNERS,
    accepted,
    encoded,
    is_true,
    mutated,
    places,
    receipts,
    sealed_sample,
)
from tests.verify.journal import LEDGER, VERIFIER, Members
from tests.verify.prover import Prover

JOURNAL = sealed_sample()
PROVER = Prover(JOURNAL)
RECEIPTS = receipts(PROVER)
PLACES = [list(places(receipt)) for receipt in RECEIPTS]
MUTATIONS_SLOW = 1_000_000
PROCESSES = 2
VERIFIER_OF_ALL = ReceiptVerifier(ALL)


def title(receipt: Members) -> str:
    return " ".join(str(receipt.get(name, "")) for name in ("kind", "table", "key", "as_of_seq", "version"))


def receipt_of(kind: str, key: str) -> Members:
    return next(each for each in RECEIPTS if each["kind"] == kind and each.get("key") == key)


@pytest.mark.parametrize("receipt", RECEIPTS, ids=title)
def test_every_receipt_of_an_honest_server_is_accepted(receipt: Members) -> None:
    report = verify_receipt(encoded(receipt), ALL)
    assert is_true(report, PROVER)
    assert report.receipt.ledger_id == LEDGER.hex()


def test_what_receipts_prove() -> None:
    current = verify_receipt(encoded(receipt_of("current", "vin-1")), ALL).proven
    assert current is not None
    assert current.revision is not None
    assert (current.revision.version, current.revision.data) == (1, {"make": "Saab", "year": 1988})
    history = verify_receipt(encoded(receipt_of("history", "vin-2")), ALL).proven
    assert history is not None
    assert [fact.version for fact in history.older] == [2, 1, 0]
    assert [fact.op for fact in history.older] == ["put", "delete", "put"]
    recreated = verify_receipt(encoded(receipt_of("absence", "argo")), ALL).proven
    assert recreated is not None
    assert (recreated.table_state, recreated.revision) == ("active", None)


def try_mutation(number: int, draw: random.Random) -> bool:
    """Falsify receipt `number` once. True when it was refused; fails when a falsehood was accepted."""
    receipt = RECEIPTS[number]
    where = draw.choice(PLACES[number])
    changed = mutated(receipt, where, draw, RECEIPTS[draw.randrange(len(RECEIPTS))])
    if changed == receipt:
        return False
    report = accepted(encoded(changed), VERIFIER_OF_ALL)
    assert report is None or is_true(report, PROVER), f"{title(receipt)}: {where}: {encoded(changed)!r}"
    return report is None


@given(st.integers(0, len(RECEIPTS) - 1), st.randoms(use_true_random=False))
def test_a_changed_value_is_refused(number: int, draw: random.Random) -> None:
    try_mutation(number, draw)


@given(st.integers(0, len(RECEIPTS) - 1), st.integers(0), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_refused(number: int, at: int, byte: int, cut: bool) -> None:
    text = bytearray(encoded(RECEIPTS[number]))
    at %= len(text)
    if cut:
        del text[at:]
    else:
        text[at] = byte
    report = accepted(bytes(text), VERIFIER_OF_ALL)
    assert report is None or is_true(report, PROVER)


def falsify(seed: int) -> tuple[int, int]:
    """Change receipts until so many were refused; (tried, refused)."""
    draw = random.Random(seed)
    tried = refused = 0
    while refused < MUTATIONS_SLOW // PROCESSES:
        refused += try_mutation(tried % len(RECEIPTS), draw)
        tried += 1
    return tried, refused


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_mutated_receipts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("fork")) as pool:
        done = list(pool.map(falsify, range(PROCESSES)))
    tried, refused = (sum(column) for column in zip(*done, strict=True))
    took_s = time.perf_counter() - began
    assert refused >= MUTATIONS_SLOW
    with capsys.disabled():
        print(f"\n{tried} changed receipts in {took_s:.0f} s: {refused} refused, no falsehood accepted")


def test_fewer_cosigners_than_the_policy_asks_for() -> None:
    text = encoded(receipt_of("current", "vin-1"))
    stranger = VerifierKey("cluster/n9", 4, bytes(31) + b"\x01")
    verify_receipt(text, TrustPolicy.k_of_n(VERIFIER, [*COSIGNERS, stranger], 3))
    with pytest.raises(Unsigned, match="4 of"):
        verify_receipt(text, TrustPolicy.k_of_n(VERIFIER, [*COSIGNERS, stranger], 4))


def test_a_policy_of_another_log_refuses() -> None:
    other = TrustPolicy((VerifierKey("elsewhere/registry", 1, VERIFIER.public_key),))
    with pytest.raises(Unsigned, match="log of the policy"):
        verify_receipt(encoded(receipt_of("current", "vin-1")), other)


def test_an_old_value_is_not_current() -> None:
    old = Prover(JOURNAL, JOURNAL.blocks[-1]["header"]["seq"] - 5)
    receipt = old.receipt("current", old.current("boats", "argo"), table="boats", key="argo")
    report = verify_receipt(encoded(receipt), ALL)
    assert report.checkpoint.size == old.size  # true as of then, and it says so
    shown = PROVER.revision("cars", "vin-1", 0)["document"]["revision"]
    proof = PROVER.current("cars", "vin-1")
    proof["document"]["revision"] = shown
    with pytest.raises(Mismatch, match="newest revision"):
        verify_receipt(encoded(PROVER.receipt("current", proof, table="cars", key="vin-1")), ALL)
    # The state of an earlier seal, under the newest checkpoint.
    proof = {**old.current("boats", "argo"), "checkpoint": PROVER.note}
    with pytest.raises(Mismatch, match="block of the seal"):
        verify_receipt(encoded(PROVER.receipt("current", proof, table="boats", key="argo")), ALL)


def test_a_key_that_is_there_cannot_be_hidden() -> None:
    proof = PROVER.current("cars", "vin-3")
    for key in ("vin-1", "vin-2"):
        with pytest.raises(VerificationError):
            verify_receipt(encoded(PROVER.receipt("absence", proof, table="cars", key=key)), ALL)
    hidden = PROVER.current("cars", "vin-1")
    del hidden["document"]["revision"]
    with pytest.raises(Incomplete, match="version 1 stands under 'vin-1'"):
        verify_receipt(encoded(PROVER.receipt("absence", hidden, table="cars", key="vin-1")), ALL)
    # As if the table had never been made: a name that is not there, in place of the one that is.
    elsewhere = {**hidden, "document": {}, "table": PROVER.current("planes", "vin-1")["table"]}
    with pytest.raises(InvalidProof):
        verify_receipt(encoded(PROVER.receipt("absence", elsewhere, table="cars", key="vin-1")), ALL)


def test_the_table_is_the_one_that_bears_the_name() -> None:
    """The dropped table's documents are no documents of the one made later under the same name."""
    old = Prover(JOURNAL, JOURNAL.blocks[-1]["header"]["seq"] - 5).current("boats", "argo")
    proof = PROVER.current("boats", "argo")
    proof["document"] = old["document"]
    with pytest.raises(VerificationError):
        verify_receipt(encoded(PROVER.receipt("current", proof, table="boats", key="argo")), ALL)


def test_a_history_with_a_gap_or_an_early_end_is_refused() -> None:
    receipt = receipt_of("history", "vin-2")
    older = receipt["proof"]["document"]["older"]
    for left, error in [(older[1:], BrokenChain), (older[:-1], Incomplete), ([], Incomplete)]:
        proof = {**receipt["proof"], "document": {**receipt["proof"]["document"], "older": left}}
        with pytest.raises(error):
            verify_receipt(encoded({**receipt, "proof": proof}), ALL)


def test_content_may_be_withheld_but_not_replaced() -> None:
    receipt = receipt_of("history", "vin-2")
    document = dict(receipt["proof"]["document"])
    bare = {name: document["older"][0][name] for name in ("leaf", "place")}
    document["older"] = [bare, *document["older"][1:]]
    text = encoded({**receipt, "proof": {**receipt["proof"], "document": document}})
    proven = verify_receipt(text, ALL).proven
    assert proven is not None
    assert (proven.older[0].opened, proven.older[0].data) == (False, None)
    document["older"] = [{**bare, "data": {}}, *document["older"][1:]]
    with pytest.raises(Malformed):
        verify_receipt(encoded({**receipt, "proof": {**receipt["proof"], "document": document}}), ALL)


def test_a_member_that_stands_twice_is_refused() -> None:
    text = encoded(receipt_of("current", "vin-1")).replace(b'"year":1988', b'"year":1970,"year":1988')
    with pytest.raises(Malformed, match="twice"):
        verify_receipt(text, ALL)


def test_absurd_sizes_are_refused_before_anything_else() -> None:
    receipt = receipt_of("current", "vin-1")
    state = receipt["proof"]["document"]["state"]
    for wrong in (
        {**state, "rows": "A" * 1_284},
        {**state, "siblings": "A" * 16_388},
        {**state, "bucket_depth": 19},
        {**state, "siblings": ["A" * 44] * 30},
        {**state, "empty": "A" * 68},
    ):
        document = {**receipt["proof"]["document"], "state": wrong}
        with pytest.raises(Malformed):
            verify_receipt(encoded({**receipt, "proof": {**receipt["proof"], "document": document}}), ALL)


def test_the_way_through_a_block_is_left_out_only_where_the_state_map_names_the_leaf() -> None:
    verifier = ProofVerifier(ALL, LEDGER.hex())
    current = PROVER.current("cars", "vin-2")
    place = current["document"]["revision"]["place"]
    assert "leaf_path" not in place
    proven = verifier.current(current, "cars", "vin-2").revision
    assert proven is not None
    past = PROVER.revision("cars", "vin-2", 0)
    whole = past["document"]["revision"]["place"]
    assert whole["header"]["seq"] != place["header"]["seq"]

    # Another block, for another time, which is in the journal.
    current["document"]["revision"]["place"] = {"header": whole["header"], "path": whole["path"]}
    with pytest.raises(Mismatch, match="block"):
        verifier.current(current, "cars", "vin-2")
    # Half of a way is none.
    for half in ("index", "leaf_path"):
        current["document"]["revision"]["place"] = {**place, half: whole[half]}
        with pytest.raises(Incomplete):
            verifier.current(current, "cars", "vin-2")
    # A past revision is named by nothing else.
    past["document"]["revision"]["place"] = {"header": whole["header"], "path": whole["path"]}
    with pytest.raises(Incomplete):
        verifier.revision(past, "cars", "vin-2", 0)
    history = PROVER.history("cars", "vin-2")
    for older in history["document"]["older"]:
        del older["place"]["index"], older["place"]["leaf_path"]
    with pytest.raises(Incomplete):
        verifier.history(history, "cars", "vin-2")


def test_what_held_before_is_not_taken_for_something_else() -> None:
    """A verifier remembers seals and tables that held, and compares the next ones whole."""
    verifier = ProofVerifier(ALL, LEDGER.hex())
    good = PROVER.current("cars", "vin-2")
    verifier.current(good, "cars", "vin-2")
    wrong = copy.deepcopy(good)
    wrong["seal"]["header"]["state_root"] = "00" * 32
    with pytest.raises(VerificationError):
        verifier.current(wrong, "cars", "vin-2")
    wrong = copy.deepcopy(good)
    wrong["table"]["revision"]["data"]["state"] = "dropped"
    with pytest.raises(VerificationError):
        verifier.current(wrong, "cars", "vin-2")
    with pytest.raises(VerificationError):
        verifier.current(good, "boats", "vin-2")
    verifier.current(good, "cars", "vin-2")


def test_a_receipt_does_not_live_on_what_another_has_shown() -> None:
    """Each must hold for those who have nothing but it, also when many are checked one after another."""
    whole = PROVER.receipt(
        "revision", PROVER.revision("cars", "vin-2", 0), table="cars", key="vin-2", version=0
    )
    bare = copy.deepcopy(whole)
    del bare["proof"]["seal"]
    verifier = ReceiptVerifier(ALL)
    verifier.verify(encoded(whole))
    with pytest.raises(Incomplete, match="seal"):
        verifier.verify(encoded(bare))
    verifier.verify(encoded(whole))


def test_the_same_note_is_no_checkpoint_of_another_ledger() -> None:
    """A receipt states log and ledger id itself: what is known of one pair says nothing of another."""
    verifier = ReceiptVerifier(ALL)
    good = receipt_of("absence", "argo")
    verifier.verify(encoded(good))
    for wrong in ({"ledger_id": "00" * 16}, {"ledger": "cluster/other"}):
        with pytest.raises(VerificationError):
            verifier.verify(encoded({**good, **wrong}))


@pytest.mark.parametrize("hostile", ["\ud800", 10**5000, 2**70, float("nan"), [[]], {1: 2}], ids=range(6))
def test_hostile_values_in_a_parsed_proof_are_malformed(hostile: object) -> None:
    proof = PROVER.current("cars", "vin-2")
    for where in places(proof):
        changed: Members = copy.deepcopy(proof)
        parent: Any = changed
        for name in where[:-1]:
            parent = parent[name]
        parent[where[-1]] = hostile
        with pytest.raises(VerificationError):
            ProofVerifier(VERIFIER, LEDGER.hex()).current(changed, "cars", "vin-2")
