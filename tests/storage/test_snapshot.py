"""A store becomes a sequence of bytes and another node's store, whatever the power does meanwhile."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from stele.format.note import checkpoint_text
from storage import directory, fsck, limits
from storage.checkpoints import Cosignature
from storage.engine import RaftRows
from storage.errors import DiskSpaceShort, FormatUnknown, InvariantBroken, SnapshotInvalid, StoreInUse
from storage.received import ReceivedSnapshot
from storage.sequence import FileTable
from storage.snapshot import SnapshotCancelled, StoreSnapshot, StoreSnapshots
from storage.store import Store
from tests.storage.driver import LEDGER, Driver

NEVER = threading.Event()


def note(store: Store, size: int) -> str:
    return checkpoint_text("test/sample", size, store.journal(LEDGER).root(size))


@pytest.fixture
def leader(tmp_path: Path) -> Driver:
    """A store with two tables' worth of documents, signed checkpoints, and rows that are in no file yet."""
    driver = Driver(tmp_path / "leader")
    driver.create("cars")
    for n in range(300):
        driver.one(driver.transact(driver.put("cars", f"k{n % 50}", {"n": n, "text": "x" * 200})))
    driver.store.engine.flush()
    for n in range(20):
        driver.one(driver.transact(driver.put("cars", f"late{n}", {"n": n})))
    driver.store.raft_rows.write([(b"e1", b"the leader's log")], [])
    keep_note(driver, 200, note(driver.store, 200))
    return driver


def number_of(driver: Driver) -> int:
    return driver.store.machine.ledgers[LEDGER].number


def keep_note(driver: Driver, size: int, text: str) -> None:
    driver.store.checkpoints.keep([(number_of(driver), size, text)])


def has_note(driver: Driver, size: int) -> bool:
    return driver.store.checkpoints.note(number_of(driver), size) is not None


def made(driver: Driver) -> tuple[StoreSnapshots, StoreSnapshot]:
    snapshots = StoreSnapshots(driver.store.engine, driver.path)
    return snapshots, snapshots.make(NEVER)


def send(
    snapshots: StoreSnapshots, snapshot: StoreSnapshot, data_dir: Path, seed: int = 1
) -> ReceivedSnapshot:
    """In chunks of any size, with a restart of the receiver now and then."""
    chosen = random.Random(seed)
    received = ReceivedSnapshot(data_dir)
    while (offset := received.offset(snapshot.digest, snapshot.size_bytes)) < snapshot.size_bytes:
        received.write(snapshots.read(offset, chosen.choice((1, 100, 5_000, 200_000))))
        if chosen.random() < 0.2:
            received.close()
            received = ReceivedSnapshot(data_dir)
    return received


def own(rows: RaftRows) -> None:
    rows.write([(b"b", b"this node's log")], [(b"", b"\xff")])


def rows_of(store: Store) -> list[tuple[bytes, bytes]]:
    return list(store.engine.scan(b"", b"\xff"))


def test_a_snapshot_is_the_store_as_it_was(leader: Driver, tmp_path: Path) -> None:
    before = rows_of(leader.store)
    snapshots, snapshot = made(leader)
    assert snapshot.applied_index == leader.store.machine.applied_index
    leader.one(leader.transact(leader.put("cars", "after", {})))
    follower = Store.open(tmp_path / "follower")
    received = send(snapshots, snapshot, tmp_path / "follower")
    received.check(snapshot.applied_index, NEVER)
    received.complete(follower, own)
    follower.close()
    follower = Store.open(tmp_path / "follower")
    assert rows_of(follower) == before
    assert list(follower.raft_rows.scan(b"", b"\xff")) == [(b"b", b"this node's log")]
    follower.close()
    assert fsck.check(tmp_path / "follower").findings == []
    assert sorted(each.name for each in (tmp_path / "follower").iterdir()) == ["lock", "store"]
    snapshots.release()
    snapshots.remove()
    assert not (leader.path / directory.CHECKPOINT).exists()


def test_what_this_node_signed_is_kept(leader: Driver, tmp_path: Path) -> None:
    follower = Driver(tmp_path / "follower")
    for entry in leader.entries[:100]:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    for size in (7, 50):
        keep_note(follower, size, note(follower.store, size))
    key_id = bytes(range(4))
    line = f"\u2014 test/n1 {base64.b64encode(key_id + bytes(72)).decode()}\n"
    kept = Cosignature(number_of(follower), 50, key_id, "test/n1", line)
    follower.store.checkpoints.keep_cosignatures([kept])
    follower.store.checkpoints.keep_cosigner_keys("the follower's key")
    leader.store.checkpoints.keep_cosigner_keys("the leader's key")
    snapshots, snapshot = made(leader)
    received = send(snapshots, snapshot, follower.path)
    received.check(snapshot.applied_index, NEVER)
    received.complete(follower.store, own)
    follower.reopen()
    assert follower.store.checkpoints.cosigner_keys() == "the follower's key"
    assert follower.store.checkpoints.cosignatures(number_of(follower), 50) == [kept]
    assert [has_note(follower, size) for size in (7, 8, 50, 200)] == [1, 0, 1, 1]
    follower.store.close()
    assert fsck.check(follower.path).findings == []


def test_a_snapshot_of_another_history_than_this_node_signed_is_not_installed(
    leader: Driver, tmp_path: Path
) -> None:
    follower = Driver(tmp_path / "follower")
    for entry in leader.entries[:100]:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    other_root = follower.store.journal(LEDGER).root(49)
    keep_note(follower, 50, checkpoint_text("test/sample", 50, other_root))
    snapshots, snapshot = made(leader)
    received = send(snapshots, snapshot, follower.path)
    received.check(snapshot.applied_index, NEVER)
    with pytest.raises(InvariantBroken, match="signed checkpoint of size 50"):
        received.complete(follower.store, own)
    follower.reopen()
    assert follower.store.machine.applied_index == 100


@pytest.mark.parametrize("damage", ["flip", "cut", "grow"])
def test_what_is_not_as_it_was_sent_is_found(leader: Driver, tmp_path: Path, damage: str) -> None:
    """As a power cut may leave what was received and not synced."""
    snapshots, snapshot = made(leader)
    received = send(snapshots, snapshot, tmp_path)
    file = max((tmp_path / directory.RECEIVED / "files").glob("*.sst"), key=lambda each: each.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    damaged = bytes(data)
    file.write_bytes({"flip": damaged, "cut": damaged[:-100], "grow": damaged + b"x"}[damage])
    with pytest.raises(SnapshotInvalid):
        received.check(snapshot.applied_index, NEVER)


def test_a_sound_sequence_of_an_unsound_store_is_found(leader: Driver, tmp_path: Path) -> None:
    """Its sender was wrong before it sent anything."""
    root = leader.store.journal(LEDGER).root(299)
    keep_note(leader, 300, checkpoint_text("test/sample", 300, root))
    snapshots, snapshot = made(leader)
    received = send(snapshots, snapshot, tmp_path)
    with pytest.raises(InvariantBroken, match="signed checkpoint of size 300"):
        received.check(snapshot.applied_index, NEVER)


def test_a_snapshot_of_another_entry_than_was_said_is_found(leader: Driver, tmp_path: Path) -> None:
    snapshots, snapshot = made(leader)
    received = send(snapshots, snapshot, tmp_path)
    with pytest.raises(InvariantBroken, match="not of entry"):
        received.check(snapshot.applied_index + 1, NEVER)


def test_another_snapshot_takes_the_place_of_a_part(leader: Driver, tmp_path: Path) -> None:
    snapshots, snapshot = made(leader)
    received = ReceivedSnapshot(tmp_path)
    received.offset(bytes(32), 1_000_000)
    received.write(snapshots.read(0, 1) + b"\0" * 3)
    assert received.offset(snapshot.digest, snapshot.size_bytes) == 0
    received.close()
    again = send(snapshots, snapshot, tmp_path)
    again.check(snapshot.applied_index, NEVER)


HOSTILE = [
    [["../../etc/passwd", 10]],
    [["/etc/passwd", 10]],
    [["CURRENT\0", 10]],
    [["LOCK", 10]],
    [["CURRENT", 10], ["CURRENT", 10]],
    [["CURRENT", -1]],
    [["CURRENT", 1 << 60]],
    [["CURRENT"]],
    "CURRENT",
]


@pytest.mark.parametrize("table", HOSTILE, ids=str)
def test_a_table_that_rocksdb_would_not_make_is_refused(tmp_path: Path, table: object) -> None:
    body = msgspec.msgpack.encode(table)
    received = ReceivedSnapshot(tmp_path)
    received.offset(bytes(32), 1_000)
    with pytest.raises(SnapshotInvalid):
        received.write(len(body).to_bytes(4, "big") + body)
    assert not (tmp_path / directory.RECEIVED).exists()


def test_a_table_that_never_ends_is_refused() -> None:
    with pytest.raises(SnapshotInvalid):
        FileTable.parse((limits.SNAPSHOT_TABLE_SIZE_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_disk_that_is_nearly_full_keeps_no_snapshot(
    leader: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, snapshot = made(leader)
    received = ReceivedSnapshot(tmp_path)
    monkeypatch.setattr(limits, "SNAPSHOT_DISK_FREE_SIZE_BYTES_MIN", 1 << 60)
    with pytest.raises(DiskSpaceShort):
        received.offset(snapshot.digest, snapshot.size_bytes)
    with pytest.raises(DiskSpaceShort):
        snapshots.read(0, 10)
    with pytest.raises(DiskSpaceShort):
        snapshots.make(NEVER)
    leader.one(leader.transact(leader.put("cars", "unharmed", {})))


def test_a_snapshot_that_nobody_needs_is_not_made(leader: Driver) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(SnapshotCancelled):
        StoreSnapshots(leader.store.engine, leader.path).make(cancelled)


def test_a_directory_of_an_earlier_version_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("MANIFEST-000001\n")
    with pytest.raises(FormatUnknown, match="earlier version"):
        Store.open(tmp_path)


DYING = """
import os, signal, sys, threading
from pathlib import Path
from storage.received import ReceivedSnapshot
from storage.store import Store

def step(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

def own(rows):
    rows.write([(b"b", b"this node's log")], [(b"", b"\\xff")])

path = Path(sys.argv[1])
store = Store.open(path)
ReceivedSnapshot(path).complete(store, own, step)
store.close()
Store.open(path, step).close()
"""

STEPS = {
    "take": False,
    "own": False,
    "sync": False,
    "complete": False,
    "put the former away": True,
    "put the next in its place": True,
    "delete the former": True,
}
"""Where the process dies, and whether the new store is what the next start finds."""


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_at_every_step_leaves_one_whole_store(leader: Driver, tmp_path: Path, step: str) -> None:
    path = tmp_path / "follower"
    follower = Driver(path)
    for entry in leader.entries[:100]:
        follower.store.machine.apply(follower.store.machine.applied_index + 1, entry)
    follower.store.close()
    snapshots, snapshot = made(leader)
    send(snapshots, snapshot, path).close()
    killed = subprocess.run([sys.executable, "-c", DYING, str(path), step], check=False)
    assert killed.returncode == -9
    store = Store.open(path)
    expected = snapshot.applied_index if STEPS[step] else 100
    assert store.machine.applied_index == expected
    assert (store.raft_rows.get(b"b") is not None) == STEPS[step]
    store.close()
    assert fsck.check(path).findings == []
    left = {each.name for each in path.iterdir()} - {"lock", "store"}
    assert left == ({directory.RECEIVED} if step == "take" else set())


def test_a_directory_has_one_owner_even_before_its_store_is_open(tmp_path: Path) -> None:
    lock = directory.DirectoryLock(tmp_path)
    with pytest.raises(StoreInUse):
        Store.open(tmp_path)
    lock.release()
    Store.open(tmp_path).close()
