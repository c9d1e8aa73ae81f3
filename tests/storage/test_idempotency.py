"""A repeated idempotency key gets the first answer; a repeated bulk stream goes on where it ended."""

from __future__ import annotations

import msgspec
import pytest

from storage import fsck
from storage.commands import Condition
from storage.outcomes import Committed, Refused
from storage.store import Store
from tests.storage.driver import LEDGER, Driver, committed, refused


def test_a_repeated_key_gets_the_first_answer_and_makes_one_revision(driver: Driver) -> None:
    put = driver.put("cars", "a", {"n": 1})
    first = committed(driver.one(driver.transact(put, idempotency_key="one", digest=b"d")))
    driver.reopen()
    second = committed(driver.one(driver.transact(put, idempotency_key="one", digest=b"d")))
    assert second == msgspec.structs.replace(first, repeated=True)
    assert len(driver.store.view(LEDGER).history("cars", "a", None, 10)) == 1


def test_a_key_repeated_within_one_entry_counts_too(driver: Driver) -> None:
    commands = [driver.transact(driver.put("cars", "a", {}), idempotency_key="one") for _ in range(2)]
    first, second = (committed(outcome) for outcome in driver.apply(*commands))
    assert (second.seq, second.repeated) == (first.seq, True)


def test_a_key_with_another_request_is_refused(driver: Driver) -> None:
    put = driver.put("cars", "a", {})
    committed(driver.one(driver.transact(put, idempotency_key="one", digest=b"d")))
    outcome = refused(driver.one(driver.transact(put, idempotency_key="one", digest=b"other")))
    assert outcome.reason == "idempotency-key-reused"


def test_a_refusal_is_a_first_answer_too(driver: Driver) -> None:
    wants_version = Condition("cars", "a", None, 5, "version")
    put = driver.put("cars", "a", {})
    first = refused(driver.one(driver.transact(put, conditions=[wants_version], idempotency_key="one")))
    committed(driver.one(driver.transact(put)))
    assert (
        refused(driver.one(driver.transact(put, conditions=[wants_version], idempotency_key="one"))) == first
    )


def test_what_became_of_a_transaction(driver: Driver) -> None:
    good = driver.transact(driver.put("cars", "a", {}))
    bad = driver.transact(driver.delete("cars", "absent"))
    driver.apply(good, bad)
    driver.reopen()
    assert isinstance(driver.store.transaction(LEDGER, good.tx), Committed)
    outcome = driver.store.transaction(LEDGER, bad.tx)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "document-missing"
    assert driver.store.transaction(LEDGER, bytes(16)) is None


def test_the_ring_of_refusals_is_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.transition.REFUSALS_KEPT_PER_LEDGER", 3)
    tried = [driver.transact(driver.delete("cars", "absent"), idempotency_key=f"key {n}") for n in range(5)]
    for command in tried:
        refused(driver.one(command))
    kept = [driver.store.transaction(LEDGER, command.tx) is not None for command in tried]
    assert kept == [False, False, True, True, True]
    driver.reopen()
    refused(driver.one(driver.transact(driver.delete("cars", "absent"))))
    assert driver.store.transaction(LEDGER, tried[2].tx) is None
    assert len(list(driver.store.engine.scan(b"R", b"S"))) == 3
    driver.store.close()
    assert fsck.check(driver.path).findings == []
    driver.store = Store.open(driver.path)


def test_a_bulk_stream_sent_again_goes_on_behind_what_was_committed(driver: Driver) -> None:
    lines = [driver.put("cars", f"k{n}", {"n": n}) for n in range(1, 11)]

    def chunk(first: int, last: int) -> Committed:
        part = lines[first - 1 : last]
        return committed(driver.one(driver.transact(*part, idempotency_key="stream", bulk_line=first)))

    assert chunk(1, 4).duplicates == 0
    assert chunk(5, 6).duplicates == 0
    whole = chunk(1, 5)
    assert (whole.duplicates, whole.versions, whole.repeated) == (5, (), True)
    partly = chunk(5, 8)
    assert (partly.duplicates, partly.versions) == (2, (0, 0))
    driver.reopen()
    assert chunk(7, 10).duplicates == 2
    view = driver.store.view(LEDGER)
    assert [len(view.history("cars", f"k{n}", None, 5)) for n in range(1, 11)] == [1] * 10
