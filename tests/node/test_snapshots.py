"""What becomes of a snapshot once all of it has come."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from consensus.snapshot import Snapshot, SnapshotFailed
from node.snapshots import Sink, Source
from storage import directory
from storage.errors import InvariantBroken
from storage.received import ReceivedSnapshot
from storage.snapshot import StoreSnapshots
from storage.store import Store
from tests.consensus.cluster import until
from tests.storage.driver import Driver

OTHER = Snapshot(b"o" * 32, 1_000, 99, 1, b"")


class Arrived:
    """A whole snapshot in a sink, and what the sink says of it."""

    def __init__(self, tmp_path: Path, *, said_index: int | None = None) -> None:
        driver = Driver(tmp_path / "leader")
        driver.create("cars")
        snapshots = StoreSnapshots(driver.store.engine, driver.path)
        made = snapshots.make(threading.Event())
        index = made.applied_index if said_index is None else said_index
        self.content = snapshots.read(0, made.size_bytes)
        self.snapshot = Snapshot(made.digest, made.size_bytes, index, 1, b"")
        self.received: list[Snapshot] = []
        self.fatal: list[BaseException] = []
        self.path = tmp_path / "follower"
        self.path.mkdir()
        self.sink = Sink(ReceivedSnapshot(self.path), self.received.append, self.fatal.append)
        self.sink.offset(self.snapshot)
        self.sink.write(self.content)


async def test_a_sound_snapshot_is_handed_on_once(tmp_path: Path) -> None:
    arrived = Arrived(tmp_path)
    arrived.sink.finish(arrived.snapshot)
    await until(lambda: arrived.received, "it is told")
    arrived.sink.finish(arrived.snapshot)
    await arrived.sink.close()
    assert (arrived.received, arrived.fatal) == ([arrived.snapshot], [])


async def test_what_is_about_to_be_installed_does_not_change(tmp_path: Path) -> None:
    """A new leader sends a snapshot of its own meanwhile; and an entry of the log is no reason either."""
    arrived = Arrived(tmp_path)
    arrived.sink.finish(arrived.snapshot)
    with pytest.raises(SnapshotFailed, match="about to be installed"):
        arrived.sink.offset(OTHER)
    arrived.sink.discard()
    assert arrived.sink.offset(arrived.snapshot) == len(arrived.content)
    arrived.sink.forget()
    assert arrived.sink.offset(OTHER) == 0
    await arrived.sink.close()


async def test_what_is_not_as_it_was_sent_comes_again(tmp_path: Path) -> None:
    arrived = Arrived(tmp_path)
    file = next((arrived.path / directory.RECEIVED / "files").glob("*.sst"))
    file.write_bytes(b"\0" * file.stat().st_size)
    arrived.sink.finish(arrived.snapshot)
    await until(lambda: not (arrived.path / directory.RECEIVED).exists(), "it is dropped")
    assert arrived.sink.offset(arrived.snapshot) == 0
    await arrived.sink.close()
    assert (arrived.received, arrived.fatal) == ([], [])


async def test_f8_what_is_as_it_was_sent_and_unsound_stops_the_node(tmp_path: Path) -> None:
    arrived = Arrived(tmp_path, said_index=77)
    arrived.sink.finish(arrived.snapshot)
    await until(lambda: arrived.fatal, "it is told")
    await arrived.sink.close()
    assert arrived.received == []
    assert isinstance(arrived.fatal[0], InvariantBroken)


async def test_a_source_makes_frees_and_makes_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    source = Source(StoreSnapshots(store.engine, tmp_path))
    source.begin()
    with pytest.raises(SnapshotFailed, match="nothing"):  # No entry was ever applied.
        await until(source.taken, "it is made")
    source.release()
    source.begin()
    await source.close()
    assert source.taken() is None
    assert not (tmp_path / directory.CHECKPOINT).exists()
    store.close()
