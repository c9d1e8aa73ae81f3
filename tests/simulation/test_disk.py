"""The simulated disk keeps what RocksDB keeps: what was synced, and a prefix of the rest."""

from __future__ import annotations

import hashlib
import random

import pytest

from chaos.simulation.disk import DiskFailed, Fate, OrderedRows, PowerLost, SimulatedDisk
from chaos.simulation.scheduler import Scheduler
from chaos.simulation.snapshots import SimulatedSink
from consensus.snapshot import Snapshot, SnapshotFailed


def disk(seed: int = 1, fate: Fate = Fate.DONE) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed), lambda synced, deletes: fate)


def put(on: SimulatedDisk, number: int) -> None:
    """One batch of two rows, not synced."""
    batch = on.batch()
    batch.put(b"a%03d" % number, b"x")
    batch.put(b"b%03d" % number, b"y")
    on.write(batch)


def kept(on: SimulatedDisk) -> list[bytes]:
    return [key for key, _ in on.scan(b"", b"\xff")]


def test_a_power_cut_leaves_whole_batches_and_a_prefix_of_them() -> None:
    lengths = set()
    for seed in range(200):
        one = disk(seed)
        for number in range(10):
            put(one, number)
        one.recover(power_lost=True)
        found = kept(one)
        count = len(found) // 2
        assert found == [b"a%03d" % n for n in range(count)] + [b"b%03d" % n for n in range(count)]
        lengths.add(count)
    assert lengths >= set(range(10))


def test_a_sync_of_the_raft_rows_makes_everything_before_it_durable() -> None:
    for seed in range(50):
        one = disk(seed)
        put(one, 1)
        one.raft_rows.write([(b"e1", b"entry")], [])
        one.raft_rows.sync()
        put(one, 2)
        one.recover(power_lost=True)
        assert b"a001" in kept(one)
        assert one.raft_rows.get(b"e1") == b"entry"


def test_a_killed_process_loses_nothing() -> None:
    one = disk()
    put(one, 1)
    assert one.recover(power_lost=False) == 0
    assert kept(one) == [b"a001", b"b001"]


@pytest.mark.parametrize(("fate", "error"), [(Fate.FAILED, DiskFailed), (Fate.POWER_LOST, PowerLost)])
def test_a_failed_write_happened_or_not(fate: Fate, error: type[Exception]) -> None:
    outcomes = set()
    for seed in range(200):
        one = disk(seed, fate)
        with pytest.raises(error):
            put(one, 1)
        with pytest.raises(DiskFailed, match="before"):
            put(one, 2)
        one.recover(power_lost=True)
        outcomes.add(tuple(kept(one)))
    assert outcomes == {(), (b"a001", b"b001")}


def test_rows_are_in_order_and_ranges_end_before_their_end() -> None:
    one = disk()
    batch = one.batch()
    for key in (b"c", b"a", b"b", b"d"):
        batch.put(key, key)
    batch.delete_range(b"b", b"d")
    batch.delete(b"missing")
    one.write(batch)
    assert kept(one) == [b"a", b"d"]
    cursor = one.cursor(b"d")
    assert cursor.seek(b"") == (b"a", b"a")
    assert cursor.next() is None
    assert one.cursor(b"e").seek(b"b") == (b"d", b"d")


def test_a_copy_of_rows_lives_its_own_life() -> None:
    first = OrderedRows()
    first.change(0, b"a", b"1")
    second = first.copy()
    second.change(0, b"b", b"2")
    assert (len(first), len(second)) == (1, 2)
    assert first != second


def test_what_is_not_as_it_was_sent_is_not_installed() -> None:
    scheduler = Scheduler(1)
    received: list[Snapshot] = []
    sink = SimulatedSink(scheduler, lambda: False, received.append)
    announced = Snapshot(hashlib.sha256(b"as it was sent").digest(), 14, 9, 1, b"")
    for content, installed in ((b"as it was Sent", 0), (b"as it was sent", 1)):
        assert sink.offset(announced) == 0
        sink.write(content)
        sink.finish(announced)
        scheduler.advance(1.0)
        assert len(received) == installed


def test_what_is_being_checked_is_not_changed_by_another_snapshot() -> None:
    scheduler = Scheduler(1)
    received: list[Snapshot] = []
    sink = SimulatedSink(scheduler, lambda: False, received.append)
    first, second = (
        Snapshot(hashlib.sha256(content).digest(), 5, 9, 1, b"") for content in (b"first", b"other")
    )
    assert sink.offset(first) == 0
    sink.write(b"first")
    sink.finish(first)
    with pytest.raises(SnapshotFailed, match="another"):
        sink.offset(second)
    scheduler.advance(1.0)
    assert received == [first]
