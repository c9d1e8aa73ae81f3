"""The defects of PySyncObj's snapshots and compaction that CONSENSUS.md numbers: shown on the stock engine,
and closed on ours."""

from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from consensus import limits, membership_history
from consensus.config import CatchUp
from consensus.errors import LogCorrupt, MalformedMessage
from consensus.install import replace_log
from consensus.log import DurableLog
from consensus.membership import Member, Membership
from consensus.membership_history import MembershipEntry
from consensus.messages import AppendResponse, InstallSnapshot, SnapshotResponse
from consensus.snapshot import Snapshot
from tests.consensus.cores import Bench, append, entries
from tests.consensus.rocks import RocksStore
from tests.consensus.snapshots import MemorySink, MemorySource
from tests.consensus.stock_node import NO_OP, StockNode


def dump(index: int, term: int = 1) -> bytes:
    """What the stock engine stores and sends as a snapshot of entry `index`."""
    return gzip.compress(pickle.dumps((None, (NO_OP, index, term), (NO_OP, index - 1, term), ["n1", "n2"])))


def send_snapshot(node: StockNode, content: bytes) -> None:
    for piece in ((content, True, False), (b"", False, True)):
        node.receive("n1", type="append_entries", term=1, commit_index=1, serialized=piece)


def log_of(node: StockNode, first: int, last: int, commit: int) -> None:
    records = [(NO_OP, index, 1) for index in range(first, last + 1)]
    node.append("n1", 1, (first - 1, 0 if first == 2 else 1), records, commit)


def chunk(index: int, term: int, data: bytes = b"", size_bytes: int = 100) -> InstallSnapshot:
    """The first chunk of a snapshot of entry `index`, from a leader of term 1 or of the entry's."""
    snapshot = Snapshot(bytes(32), size_bytes, index, term, b"")
    return InstallSnapshot(max(1, term), snapshot, 0, zlib.crc32(data), data)


def follower(path: Path, last: int, commit_index: int) -> tuple[Bench, MemorySink]:
    """n0 with entries 2..last of term 1, of which `commit_index` is the last one committed."""
    sink = MemorySink()
    bench = Bench(path, snapshot_sink=sink)
    bench.answer_to("n1", append(1, (1, 0), entries(2, *[1] * (last - 1)), commit_index=commit_index))
    return bench, sink


# F1: a snapshot's chunk lets the commit index go over the node's own unconfirmed tail.


def test_f1_stock_commits_its_tail_when_a_chunk_comes() -> None:
    node = StockNode()
    log_of(node, 2, 6, commit=1)
    node.receive("n2", type="append_entries", term=2, commit_index=6, serialized=(b"x", True, False))
    assert node.commit_index == 6


def test_f1_a_chunk_commits_nothing(tmp_path: Path) -> None:
    bench, sink = follower(tmp_path, last=6, commit_index=2)
    answer = bench.answer_to("n2", chunk(50, 2, b"x"))
    assert answer == SnapshotResponse(2, bytes(32), True, 1)
    assert (bench.core.commit_index, bench.core.log.last_index, sink.kept) == (2, 6, b"x")


# F4: a snapshot replaces a log that holds its last entry, and with it what is behind that.


def test_f4_stock_wipes_the_tail_after_a_crash_between_rename_and_truncation(tmp_path: Path) -> None:
    node = StockNode(tmp_path / "journal")
    log_of(node, 2, 10, commit=10)
    node.close()
    # The dump of entry 5 is in its place, and the process died before the journal was cut.
    (tmp_path / "dump").write_bytes(dump(5))
    again = StockNode(tmp_path / "journal", tmp_path / "dump")
    assert again.last_index == 10
    again.engine.doTick()
    assert again.last_index == 5
    again.close()


def test_f4_a_log_that_holds_the_snapshots_last_entry_is_kept(tmp_path: Path) -> None:
    bench, sink = follower(tmp_path, last=10, commit_index=2)
    assert bench.answer_to("n1", chunk(5, 1, b"x")) == AppendResponse(1, True, 5, 0, 0, 0)
    assert (bench.core.log.first_index, bench.core.log.last_index) == (1, 10)
    assert bench.core.commit_index == bench.core.applied_index == 5
    assert sink.kept == b""
    assert DurableLog(bench.store).last_index == 10


def test_f4_a_log_with_another_entry_there_takes_the_snapshot(tmp_path: Path) -> None:
    bench, sink = follower(tmp_path, last=10, commit_index=2)
    assert bench.answer_to("n2", chunk(5, 2, b"x")) == SnapshotResponse(2, bytes(32), True, 1)
    assert sink.kept == b"x"


def test_f4_between_the_last_byte_and_the_installation_it_is_asked_again(tmp_path: Path) -> None:
    """The log may have gone on by itself while the snapshot was being checked."""
    bench, sink = follower(tmp_path, last=4, commit_index=2)
    bench.answer_to("n1", chunk(6, 1, bytes(100)))
    [snapshot] = sink.finished
    assert bench.core.needs(snapshot)
    bench.answer_to("n1", append(1, (4, 1), entries(5, 1, 1)))
    assert not bench.core.needs(snapshot)


# F5: nothing checks that a snapshot is newer.


def test_f5_stock_goes_back_to_an_older_snapshot() -> None:
    node = StockNode()
    log_of(node, 2, 10, commit=10)
    node.engine.doTick()
    assert node.engine.raftLastApplied == 10
    send_snapshot(node, dump(5))
    assert (node.last_index, node.engine.raftLastApplied) == (5, 5)


@pytest.mark.parametrize(("index", "term"), [(9, 1), (10, 1), (3, 7)])
def test_f5_a_snapshot_of_what_is_committed_is_ignored(tmp_path: Path, index: int, term: int) -> None:
    bench, sink = follower(tmp_path, last=12, commit_index=10)
    answer = bench.answer_to("n2", chunk(index, term, b"x"))
    assert answer == AppendResponse(max(1, term), True, 10, 0, 0, 0)
    assert (bench.core.commit_index, bench.core.log.last_index, sink.kept) == (10, 12, b"")


# F6: compaction clears the log and adds entries back one by one.


def test_f6_stock_loses_entries_when_it_dies_while_it_compacts(tmp_path: Path) -> None:
    node = StockNode(tmp_path / "journal")
    log_of(node, 2, 20, commit=20)
    journal = node.engine._SyncObj__raftLog
    add = journal.add
    added: list[Any] = []

    def dying(*entry: Any) -> None:
        if len(added) == 3:
            raise KeyboardInterrupt  # As a kill would, between two entries.
        added.append(entry)
        add(*entry)

    journal.add = dying
    with pytest.raises(KeyboardInterrupt):
        journal.deleteEntriesTo(10)
    node.close()
    again = StockNode(tmp_path / "journal")
    assert again.last_index == 13
    again.close()


class CountingStore:
    """A store that dies in its batch number `dying`, before or after it is on disk."""

    def __init__(self, store: RocksStore) -> None:
        self._store = store
        self.get, self.scan = store.get, store.scan
        self.deletions: list[Sequence[tuple[bytes, bytes]]] = []
        self.dying = ""

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]]
    ) -> None:
        if delete_ranges and self.dying == "before":
            raise KeyboardInterrupt
        self._store.write(puts, delete_ranges)
        if delete_ranges:
            self.deletions.append(delete_ranges)
            if self.dying == "after":
                raise KeyboardInterrupt

    def sync(self) -> None:
        self._store.sync()


@pytest.mark.parametrize(("dying", "first_index"), [("before", 1), ("after", 14)])
def test_f6_compaction_is_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dying: str, first_index: int
) -> None:
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 4)
    entry = 64 << 10
    settings: dict[str, Any] = {"catch_up": CatchUp(1, 4 * entry), "snapshot_source": MemorySource(b"")}
    bench = Bench(tmp_path, **settings)
    store = CountingStore(bench.store)
    bench.core = bench.new_core(store)
    records = entries(2, *[1] * 15, payload=bytes(entry))
    store.dying = dying
    bench.core.receive("n1", append(1, (1, 0), records, commit_index=16))
    with pytest.raises(KeyboardInterrupt):
        bench.settle()
    found = DurableLog(bench.store)
    assert (found.first_index, found.last_index) == (first_index, 16)
    assert len(store.deletions) == (dying == "after")


# F8: a snapshot that cannot be loaded is acknowledged all the same.


def test_f8_stock_acknowledges_a_snapshot_that_it_could_not_load() -> None:
    node = StockNode()
    content = bytearray(dump(50))
    content[0] ^= 1
    send_snapshot(node, bytes(content))
    answers = [message for _, message in node.transport.sent if message["type"] == "next_node_idx"]
    assert [each["success"] for each in answers] == [True]
    assert node.last_index == 1


def test_f8_a_damaged_chunk_is_refused_and_the_last_one_acknowledges_nothing(tmp_path: Path) -> None:
    bench, sink = follower(tmp_path, last=3, commit_index=2)
    good = chunk(50, 1, b"x" * 100)
    bad = InstallSnapshot(1, good.snapshot, 0, good.checksum, b"y" + b"x" * 99)
    with pytest.raises(MalformedMessage):
        bench.core.receive("n1", bad)
    answer = bench.answer_to("n1", good)
    assert answer == SnapshotResponse(1, bytes(32), True, 100)  # Bytes that are kept; no entry of the log.
    assert sink.finished == [good.snapshot]
    assert (bench.core.commit_index, bench.core.log.last_index) == (2, 3)


# What the log is after a snapshot.


def snapshot_store(path: Path, last: int = 20) -> RocksStore:
    """The log of a leader that made a snapshot: entries 1..last of term 3."""
    store = RocksStore(path)
    log = DurableLog(store)
    log.set_hard_state(9, "n1")
    log.identity.draw(lambda size: b"L" * size)
    for index, each in enumerate(entries(1, *[3] * last), 1):
        log.append(index, 3, each)
    log.sync()
    return store


def test_the_log_that_came_becomes_the_nodes_own(tmp_path: Path) -> None:
    """Its term, vote and incarnation stay: it is the same server, and keeps what it promised."""
    bench, _ = follower(tmp_path / "own", last=6, commit_index=2)
    bench.core.log.set_hard_state(5, "n2")
    bench.core.log.sync()
    received = snapshot_store(tmp_path / "received")
    replace_log(received, bench.store, Snapshot(bytes(32), 1, 12, 3, b""))
    log = DurableLog(received)
    assert (log.first_index, log.last_index, log.term_at(12)) == (12, 12, 3)
    assert (log.current_term, log.voted_for) == (5, "n2")
    assert log.identity.incarnation == bench.core.log.identity.incarnation != b""


def test_the_membership_comes_with_the_snapshot(tmp_path: Path) -> None:
    """The entry that brought it is deleted: nothing else says who belongs to the cluster."""
    bench, _ = follower(tmp_path / "own", last=6, commit_index=2)
    bench.core.log.set_hard_state(5, "n2")
    bench.core.log.sync()
    members = (Member("n0", "z", "host", 1, "http", True, b"0" * 16),)
    entry = MembershipEntry(7, Membership(members))
    received = snapshot_store(tmp_path / "received")
    replace_log(received, bench.store, Snapshot(bytes(32), 1, 12, 3, membership_history.encode(entry)))
    found = DurableLog(received).memberships.at(12)
    assert found is not None
    assert (found.index, found.membership) == (7, entry.membership)


@pytest.mark.parametrize(("index", "term"), [(21, 3), (12, 2)])
def test_a_snapshot_without_its_last_entry_is_not_installed(tmp_path: Path, index: int, term: int) -> None:
    bench, _ = follower(tmp_path / "own", last=6, commit_index=2)
    received = snapshot_store(tmp_path / "received")
    with pytest.raises(LogCorrupt):
        replace_log(received, bench.store, Snapshot(bytes(32), 1, index, term, b""))
    assert DurableLog(received).last_index == 20
