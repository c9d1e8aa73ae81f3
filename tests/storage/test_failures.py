"""RocksDB's messages, as it was seen to give them, become typed failures that name the file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.engine import Engine
from storage.errors import DiskSpaceShort, StorageFailed, StoreDamaged
from storage.failures import failure
from storage.store import Store


@pytest.mark.parametrize(
    ("text", "kind", "number", "file"),
    [
        (
            "IO error: No space left on device: While appending to file: /data/n1/store/000012.log: "
            "No space left on device",
            StorageFailed,
            errno.ENOSPC,
            "000012.log",
        ),
        (
            "IO error: While fsync: /data/Input/output error/000007.sst: Input/output error",
            StorageFailed,
            errno.EIO,
            "000007.sst",
        ),
        (
            "Corruption: block checksum mismatch: stored = 464825309, computed = 805147176, type = 4  in "
            "/data/store/000009.sst offset 0 size 16117",
            StoreDamaged,
            None,
            "000009.sst",
        ),
        (
            "Corruption: Bad table magic number: expected 98, found 11 in /data/store/000009.sst  The file "
            "/data/store/MANIFEST-000005 may be corrupted.",
            StoreDamaged,
            None,
            "000009.sst",
        ),
        ("Shutdown in progress", StorageFailed, None, None),
    ],
)
def test_messages(text: str, kind: type[StorageFailed], number: int | None, file: str | None) -> None:
    found = failure("cannot write", Exception(text))
    assert type(found) is kind
    assert (found.errno, found.file) == (number, file)
    assert str(found) == f"cannot write: {text}"


def test_an_error_of_the_operating_system_keeps_its_number() -> None:
    found = failure("cannot use it", OSError(errno.EROFS, "Read-only file system"))
    assert type(found) is StorageFailed
    assert found.errno == errno.EROFS


def test_a_table_that_is_gone_is_damage(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "db")
    engine.raft_rows.write([(b"row", b"value")])
    engine.flush()
    engine.close()
    (table,) = (tmp_path / "db").glob("*.sst")
    table.unlink()
    with pytest.raises(StoreDamaged) as caught:
        Engine(tmp_path / "db")
    assert caught.value.file == table.name


def test_a_node_does_not_start_on_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.limits.START_DISK_FREE_SIZE_BYTES_MIN", 1 << 60)
    with pytest.raises(DiskSpaceShort, match="a node starts with"):
        Store.open(tmp_path)
    monkeypatch.undo()
    Store.open(tmp_path).close()
