"""Erasing revisions: what goes, what stays provable, what is refused, and what fsck says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from stele.format.block import parse_header
from stele.format.erasure import parse_erasure
from storage import directory, fsck, keys, limits, rows
from storage.commands import Erase
from storage.engine import Batch, Engine
from storage.errors import FilesRemain
from storage.store import Store
from tests.storage.driver import LEDGER, Driver, committed, refused

SECRET = "Erika Mustermann, Heidestrasse 17"


def erase(
    driver: Driver,
    key: str = "k",
    versions: tuple[int, ...] | None = None,
    table: str = "cars",
    idempotency_key: str | None = None,
    digest: bytes = b"",
) -> Erase:
    return Erase(
        LEDGER,
        table,
        key,
        versions,
        "asked for",
        driver.random_bytes(16),
        driver.tick(),
        "tester",
        idempotency_key,
        digest,
    )


def write(driver: Driver, count: int = 3, key: str = "k") -> None:
    for n in range(count):
        committed(driver.one(driver.transact(driver.put("cars", key, {"n": n, "name": SECRET}))))


def erased_by(driver: Driver, key: str = "k") -> list[int | None]:
    """By version, oldest first."""
    return [r.erased_by for r in reversed(driver.store.view(LEDGER).history("cars", key, None, 100))]


def test_chosen_versions_lose_payload_and_salt_and_nothing_else(driver: Driver) -> None:
    write(driver, 4)
    before = driver.store.view(LEDGER).history("cars", "k", None, 10)
    outcome = committed(driver.one(erase(driver, versions=(2, 0))))
    assert outcome.versions == (0, 2)
    assert erased_by(driver) == [outcome.seq, None, outcome.seq, None]
    for old, new in zip(before, driver.store.view(LEDGER).history("cars", "k", None, 10), strict=True):
        if new.erased_by is None:
            assert new == old
        else:
            assert (new.payload, new.salt) == (b"", b"")
            assert new == old._replace(payload=b"", salt=b"", erased_by=outcome.seq)


def test_the_block_says_what_was_erased_and_why(driver: Driver) -> None:
    write(driver)
    journal = driver.store.journal(LEDGER)
    size, head = journal.size, journal.leaf_hash(journal.size - 1)
    outcome = committed(driver.one(erase(driver)))
    block = journal.block(outcome.seq)
    header = parse_header(block.header)
    assert (outcome.seq, header.kind, header.prev) == (size, "erasure", head.hex())
    assert (header.revision_count, block.leaves) == (0, ())
    assert header.info == hashlib.sha256(block.information).hexdigest()
    said = parse_erasure(block.information)
    assert (said.table, said.key, said.versions, said.reason) == ("cars@1", "k", ((0, 2),), "asked for")
    assert json.loads(block.information)["by"] == "tester"
    assert journal.root(size)


def test_a_later_revision_is_readable_and_the_past_is_not(driver: Driver) -> None:
    write(driver, 2)
    past = driver.store.journal(LEDGER).size - 1
    committed(driver.one(erase(driver)))
    committed(driver.one(driver.transact(driver.put("cars", "k", {"n": "new"}))))
    now = driver.store.view(LEDGER).get("cars", "k")
    assert now is not None
    assert (now.version, now.payload, now.erased_by) == (2, b'{"n":"new"}', None)
    then = driver.store.view(LEDGER, past).get("cars", "k")
    assert then is not None
    assert then.erased_by is not None
    assert driver.store.view(LEDGER, past).scan("cars") == []


def test_one_entry_may_write_and_erase(driver: Driver) -> None:
    write(driver, 1)
    put = driver.transact(driver.put("cars", "k", {"name": SECRET}), idempotency_key="i", digest=b"d" * 32)
    _, first, again, second = driver.apply(put, erase(driver), erase(driver), erase(driver, versions=(0,)))
    assert committed(first).versions == (0, 1)
    assert refused(again).reason == refused(second).reason == "already-erased"
    seq = committed(first).seq
    assert erased_by(driver) == [seq, seq]
    driver.reopen()
    assert erased_by(driver) == [seq, seq]


def test_versions_already_erased_are_left_to_the_block_that_did_it(driver: Driver) -> None:
    write(driver, 3)
    first = committed(driver.one(erase(driver, versions=(1,))))
    second = committed(driver.one(erase(driver)))
    assert second.versions == (0, 2)
    assert erased_by(driver) == [second.seq, first.seq, second.seq]
    assert refused(driver.one(erase(driver))).reason == "already-erased"


def test_a_deleted_document_and_a_dropped_table_can_be_erased(driver: Driver) -> None:
    write(driver, 1)
    committed(driver.one(driver.transact(driver.delete("cars", "k"))))
    committed(driver.one(driver.drop_table("cars")))
    committed(driver.one(driver.create_table("cars")))
    assert refused(driver.one(erase(driver))).reason == "revision-unknown"
    assert refused(driver.one(erase(driver, table="cars@2"))).reason == "table-unknown"
    assert refused(driver.one(erase(driver, table="people@1"))).reason == "table-unknown"
    outcome = committed(driver.one(erase(driver, table="cars@1")))
    assert outcome.versions == (0, 1)
    assert parse_erasure(driver.store.journal(LEDGER).block(outcome.seq).information).table == "cars@1"


def test_what_is_refused_leaves_no_block(driver: Driver) -> None:
    write(driver, 2)
    size = driver.store.journal(LEDGER).size
    for command, reason in [
        (erase(driver, key="nobody"), "revision-unknown"),
        (erase(driver, versions=(1, 2)), "revision-unknown"),
        (erase(driver, table="boats"), "table-unknown"),
        (erase(driver, table="$tables", key="cars"), "table-unknown"),
        (erase(driver, table="$tables@0", key="cars"), "table-unknown"),
    ]:
        assert refused(driver.one(command)).reason == reason
    assert driver.store.journal(LEDGER).size == size
    assert erased_by(driver) == [None, None]


def test_an_erasure_is_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    write(driver, 5)
    monkeypatch.setattr(limits, "ERASURE_REVISIONS_MAX", 4)
    assert refused(driver.one(erase(driver))).reason == "erasure-too-large"
    assert committed(driver.one(erase(driver, versions=(1, 2, 3, 4)))).versions == (1, 2, 3, 4)
    monkeypatch.setattr(limits, "ERASURE_WALK_ROWS_MAX", 4)
    assert refused(driver.one(erase(driver, versions=(0,)))).reason == "erasure-too-large"


def test_a_repeated_key_gets_the_first_answer(driver: Driver) -> None:
    write(driver)
    first = committed(driver.one(erase(driver, idempotency_key="e", digest=b"1" * 32)))
    size = driver.store.journal(LEDGER).size
    again = committed(driver.one(erase(driver, idempotency_key="e", digest=b"1" * 32)))
    assert (again.seq, again.versions, again.repeated) == (first.seq, first.versions, True)
    other = refused(driver.one(erase(driver, idempotency_key="e", digest=b"2" * 32)))
    assert other.reason == "idempotency-key-reused"
    assert driver.store.journal(LEDGER).size == size


def first_answer(driver: Driver, key: str) -> rows.FirstAnswer:
    number = driver.store.machine.ledgers[LEDGER].number
    stored = driver.store.engine.get(keys.idempotency(number, hashlib.sha256(key.encode()).digest()))
    assert stored is not None
    return rows.decode_first_answer(stored)


def test_the_digest_of_an_erased_request_goes_too(driver: Driver) -> None:
    """SHA-256 of a request has no salt: whoever guesses the document could confirm the guess."""
    digest = hashlib.sha256(SECRET.encode()).digest()
    put = driver.put("cars", "k", {"name": SECRET})
    committed(driver.one(driver.transact(put, idempotency_key="i", digest=digest)))
    other = driver.put("cars", "other", {})
    committed(driver.one(driver.transact(other, idempotency_key="o", digest=digest)))
    committed(driver.one(erase(driver)))
    assert first_answer(driver, "i").request_digest == b""
    assert first_answer(driver, "o").request_digest == digest
    repeated = driver.transact(put, idempotency_key="i", digest=digest)
    assert refused(driver.one(repeated)).reason == "idempotency-key-reused"


def test_fsck_accepts_an_erasure_and_nothing_like_one(driver: Driver) -> None:
    write(driver, 3)
    committed(driver.one(erase(driver, versions=(0, 2), idempotency_key="e")))
    committed(driver.one(driver.seal()))
    driver.store.close()
    assert fsck.check(driver.path).findings == []
    stem = keys.revisions_of_table(1, 1) + b"k\0"
    engine = Engine(driver.path / directory.STORE)
    stored = dict(engine.scan(stem, keys.end_of(stem)))
    engine.close()
    by_version = {rows.decode_revision(row).version: (key, row) for key, row in stored.items()}
    (erased_key, erased_row), (kept_key, kept_row) = by_version[0], by_version[1]
    wrong = [
        (kept_key, rows.erased_revision(kept_row, 6), "content is gone, but block 6 did not erase it"),
        (erased_key, rows.erased_revision(erased_row, 5), "content is gone, but block 5 did not erase it"),
        (erased_key, kept_row, "the content of 1 is gone"),
        (keys.erasure(1, 6), None, "its row names None"),
        (keys.erasure(1, 5), rows.encode(rows.ErasureRow(9, 1, "k")), "but the journal None"),
    ]
    for key, value, expected in wrong:
        original = put_row(driver.path, key, value)
        assert any(expected in finding.what for finding in fsck.check(driver.path).findings), expected
        put_row(driver.path, key, original)
    assert fsck.check(driver.path).findings == []
    driver.store = Store.open(driver.path)


def put_row(path: Path, key: bytes, value: bytes | None) -> bytes | None:
    engine = Engine(path / directory.STORE)
    before = engine.get(key)
    batch = Batch()
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
    engine.write(batch, sync=True)
    engine.close()
    return before


def found_in(path: Path, what: bytes) -> list[str]:
    return sorted(file.name for file in path.rglob("*") if file.is_file() and what in file.read_bytes())


def test_rewriting_leaves_nothing_in_any_file(driver: Driver) -> None:
    """Random bytes, which RocksDB's compression leaves as they are: a text, salts, and a request's digest."""
    store = driver.store
    secret = "".join(chr(0x4E00 + byte * 64) for byte in driver.random_bytes(24))
    kept = driver.random_bytes(32)
    digest = driver.random_bytes(32)
    for n in range(50):
        put = driver.put("cars", "k" if n % 2 else f"k{n}", {"text": secret if n % 2 else f"n{n}"})
        key = "i" if n == 3 else None
        committed(driver.one(driver.transact(put, idempotency_key=key, digest=digest if key else b"")))
        if n == 25:
            store.engine.flush()
    committed(driver.one(driver.transact(driver.put("cars", "o", {}), idempotency_key="o", digest=kept)))
    salts = [each.salt for each in store.view(LEDGER).history("cars", "k", None, 100)]
    sought = [secret.encode(), digest, *salts]
    store.raft_rows.write([(b"e1", secret.encode())])
    committed(driver.one(erase(driver)))
    (pending,) = store.pending_erasures()
    assert pending.row.raft_index == store.machine.applied_index
    store.raft_rows.write([], [(b"e1", b"e2")])
    assert all(found_in(driver.path, what) for what in sought)
    store.rewriting([pending])()
    assert not any(found_in(driver.path, what) for what in sought)
    assert found_in(driver.path, kept)

    driver.reopen()
    assert driver.store.pending_erasures() == [pending]
    driver.store.complete_erasure(pending, 4711)
    driver.reopen()
    assert driver.store.pending_erasures() == []
    known = driver.store.erasure(LEDGER, pending.seq)
    assert known is not None
    assert (known.completed_at, known.raft_index) == (4711, pending.row.raft_index)
    assert driver.store.erasure(LEDGER, 0) is None


def test_files_that_a_copy_shares_are_not_taken_for_gone(driver: Driver, tmp_path: Path) -> None:
    write(driver)
    driver.store.engine.flush()
    committed(driver.one(erase(driver)))
    copy = tmp_path / "copy.sst"
    copy.hardlink_to(next((driver.path / directory.STORE).glob("*.sst")))
    (pending,) = driver.store.pending_erasures()
    with pytest.raises(FilesRemain):
        driver.store.rewriting([pending])()
    copy.unlink()
    driver.store.rewriting([pending])()


def test_replicas_make_the_same_rows(driver: Driver, tmp_path: Path) -> None:
    write(driver)
    driver.one(erase(driver, versions=(1,)))
    driver.one(erase(driver))
    other = Store.open(tmp_path / "other")
    for index, entry in enumerate(driver.entries, 1):
        other.machine.apply(index, entry)
    assert list(other.engine.scan(*keys.EVERYTHING)) == list(driver.store.engine.scan(*keys.EVERYTHING))
    other.close()
