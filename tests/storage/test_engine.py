"""What RocksDB promises us, and what it must not do silently."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import directory, fsck
from storage.engine import Batch, Engine
from storage.errors import FormatUnknown, StorageFailed, StoreInUse
from storage.store import Store

WRITER = """
import os, signal, sys
from pathlib import Path
from storage.engine import Batch, Engine
engine = Engine(Path(sys.argv[1]))
for n in range(50):
    batch = Batch()
    batch.put(b"row%03d" % n, b"x" * 100)
    engine.write(batch)
    engine.raft_rows.write([(b"raft%03d" % n, b"y" * 100)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database whose writer was killed: everything is in the write-ahead log only."""
    path = tmp_path / "db"
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False, timeout=60)
    return path


def log_file(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda file: file.stat().st_size)


def test_a_killed_writer_loses_nothing_it_synced(killed: Path) -> None:
    engine = Engine(killed)
    assert len(list(engine.scan(b"row", b"rox"))) == 50
    assert len(list(engine.raft_rows.scan(b"raft", b"rafu"))) == 50
    engine.close()


def test_a_torn_end_of_the_log_is_what_a_power_cut_leaves(killed: Path) -> None:
    file = log_file(killed)
    file.write_bytes(file.read_bytes()[:-7])
    engine = Engine(killed)
    assert len(list(engine.raft_rows.scan(b"raft", b"rafu"))) == 49
    assert len(list(engine.scan(b"row", b"rox"))) == 50
    engine.close()


def test_bit_rot_inside_the_log_is_refused_and_never_dropped(killed: Path) -> None:
    """RocksDB's default mode would open here and silently lose every record behind the flipped bit."""
    file = log_file(killed)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StorageFailed, match="cannot open"):
        Engine(killed)


def test_a_suffix_is_replaced_in_one_batch(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "db")
    engine.raft_rows.write([(b"e1", b"a"), (b"e2", b"b"), (b"e3", b"c")])
    engine.raft_rows.write([(b"e2", b"new")], [(b"e2", b"f")])
    assert list(engine.raft_rows.scan(b"e", b"f")) == [(b"e1", b"a"), (b"e2", b"new")]
    engine.close()


def test_a_scan_stops_at_its_end(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "db")
    batch = Batch()
    for name in (b"a", b"b\0x", b"b\1", b"c"):
        batch.put(name, name)
    engine.write(batch)
    for _ in range(1_000):
        assert engine.cursor(b"b\1").seek(b"b\0y") is None
        assert [key for key, _ in engine.scan(b"b", b"b\1")] == [b"b\0x"]
    engine.close()


def test_a_data_directory_has_one_owner_and_one_format(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store.open(path)
    with pytest.raises(StoreInUse):
        Store.open(path)
    store.close()
    engine = Engine(path / directory.STORE)
    batch = Batch()
    batch.put(b"Mformat", b"stele-store-9")
    engine.write(batch)
    engine.close()
    with pytest.raises(FormatUnknown, match="written by another version: its format is 'stele-store-9'"):
        Store.open(path)
    (finding,) = fsck.check(path).findings
    assert (finding.where, "stele-store-9" in finding.what) == ("store format", True)
