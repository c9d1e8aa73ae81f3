"""Erasure and snapshots: nobody counts as clean while a copy of what was erased may be in its directory.

The rules stand in docs/adr/0012-erasure.md, "With snapshots".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import fsck, keys, limits
from storage.errors import FilesRemain
from storage.snapshot import StoreSnapshot, StoreSnapshots
from storage.store import Store
from tests.storage.driver import LEDGER, Driver, committed
from tests.storage.test_erasure import erase, found_in
from tests.storage.test_snapshot import NEVER, made, own, send


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path / "leader")
    driver.create("cars")
    yield driver
    driver.store.close()


def unique_text(driver: Driver) -> str:
    """What RocksDB's compression leaves as it is."""
    return "".join(chr(0x4E00 + byte * 64) for byte in driver.random_bytes(24))


def write(driver: Driver, text: str) -> None:
    for n in range(3):
        committed(driver.one(driver.transact(driver.put("cars", "k", {"n": n, "text": text}))))
    driver.store.engine.flush()


def complete(driver: Driver, at: int = 4711) -> None:
    for pending in driver.store.pending_erasures():
        driver.store.rewriting([pending])()
        driver.store.complete_erasure(pending, at)


def install(snapshots: StoreSnapshots, snapshot: StoreSnapshot, path: Path) -> Store:
    """On the node in `path`, which has whatever it has."""
    before = Store.open(path)
    received = send(snapshots, snapshot, path)
    received.check(snapshot.applied_index, NEVER)
    received.complete(before, own)
    before.close()
    snapshots.release()
    snapshots.remove()
    return Store.open(path)


def test_a_snapshot_from_before_the_erasure_brings_the_content_and_the_log_takes_it(
    leader: Driver, tmp_path: Path
) -> None:
    text = unique_text(leader)
    write(leader, text)
    snapshots, snapshot = made(leader)
    committed(leader.one(erase(leader)))
    follower = install(snapshots, snapshot, tmp_path / "follower")
    assert follower.pending_erasures() == []
    assert found_in(tmp_path / "follower", text.encode())
    follower.machine.apply(snapshot.applied_index + 1, leader.entries[-1])
    (pending,) = follower.pending_erasures()
    follower.rewriting([pending])()
    assert found_in(tmp_path / "follower", text.encode()) == []
    follower.close()


def test_a_snapshot_of_a_sender_that_is_not_done_makes_the_receiver_begin_anew(
    leader: Driver, tmp_path: Path
) -> None:
    """Also when the receiver was done: what it gets holds again what it had cleared."""
    text = unique_text(leader)
    write(leader, text)
    committed(leader.one(erase(leader)))
    path = tmp_path / "follower"
    follower = Driver(path)
    for entry in leader.entries:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    complete(follower)
    assert found_in(path, text.encode()) == []
    follower.store.close()

    snapshots, snapshot = made(leader)
    store = install(snapshots, snapshot, path)
    assert found_in(path, text.encode())
    (pending,) = store.pending_erasures()
    store.rewriting([pending])()
    assert found_in(path, text.encode()) == []
    store.complete_erasure(pending, 4712)
    store.close()
    assert fsck.check(path).findings == []


def test_a_receiver_that_was_not_done_is_not_done_by_a_snapshot_of_one_that_was(
    leader: Driver, tmp_path: Path
) -> None:
    write(leader, unique_text(leader))
    path = tmp_path / "follower"
    follower = Driver(path)
    for entry in leader.entries:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    follower.store.close()
    committed(leader.one(erase(leader)))
    complete(leader)
    store = install(*made(leader), path)
    assert len(store.pending_erasures()) == 1
    store.close()


def test_done_on_both_is_done_and_keeps_the_receivers_own_time(leader: Driver, tmp_path: Path) -> None:
    write(leader, unique_text(leader))
    committed(leader.one(erase(leader)))
    path = tmp_path / "follower"
    follower = Driver(path)
    for entry in leader.entries:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    complete(follower, at=17)
    follower.store.close()
    complete(leader, at=99)
    committed(leader.one(leader.transact(leader.put("cars", "later", {}))))
    store = install(*made(leader), path)
    assert store.pending_erasures() == []
    seq = store.journal(LEDGER).size - 2
    known = store.erasure(LEDGER, seq)
    assert known is not None
    assert known.completed_at == 17
    store.close()


def test_a_snapshot_in_flight_keeps_both_ends_from_being_done(leader: Driver, tmp_path: Path) -> None:
    text = unique_text(leader)
    write(leader, text)
    snapshots, snapshot = made(leader)
    committed(leader.one(erase(leader)))
    (pending,) = leader.store.pending_erasures()
    with pytest.raises(FilesRemain, match="checkpoint"):
        leader.store.rewriting([pending])()
    path = tmp_path / "follower"
    follower = Driver(path)
    for entry in leader.entries:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    received = send(snapshots, snapshot, path)
    (its_own,) = follower.store.pending_erasures()
    with pytest.raises(FilesRemain, match="received"):
        follower.store.rewriting([its_own])()
    # Both give up the copy, the follower because its log has gone further by itself.
    received.discard()
    snapshots.release()
    snapshots.remove()
    for driver in (leader, follower):
        complete(driver)
        assert found_in(driver.path, text.encode()) == []
    follower.store.close()


@pytest.mark.parametrize("keys_used", [3, limits.ERASURE_ANSWERS_APART_MAX + 4])
def test_digests_of_erased_requests_leave_the_files_and_others_are_not_touched(
    leader: Driver, keys_used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few first answers are rewritten one by one, many as a whole; either way no digest is left."""
    digests = [leader.random_bytes(32) for _ in range(keys_used)]
    for n, digest in enumerate(digests):
        put = leader.put("cars", "k", {"n": n})
        committed(leader.one(leader.transact(put, idempotency_key=f"key-{n}", digest=digest)))
    committed(leader.one(leader.transact(leader.put("cars", "o", {}), idempotency_key="o", digest=b"o" * 32)))
    leader.store.engine.flush()
    assert all(found_in(leader.path, digest) for digest in digests)
    committed(leader.one(erase(leader)))
    ranges: list[tuple[bytes, bytes]] = []
    rewrite = leader.store.engine.rewrite

    def watched(found: list[tuple[bytes, bytes]]) -> None:
        ranges.extend(found)
        rewrite(found)

    monkeypatch.setattr(leader.store.engine, "rewrite", watched)
    complete(leader)
    assert not any(found_in(leader.path, digest) for digest in digests)
    number = leader.store.machine.ledgers[LEDGER].number
    whole = keys.of_ledger(b"I", number)
    answers = [each for each in ranges if each[0].startswith(b"I")]
    if keys_used <= limits.ERASURE_ANSWERS_APART_MAX:
        assert sorted(end for _, end in answers) == sorted(start + b"\0" for start, _ in answers)
        assert len(answers) == keys_used
    else:
        assert answers == [(whole, keys.end_of(whole))]
