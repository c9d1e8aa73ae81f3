"""The edge to RocksDB: the only module that touches rocksdict.

One database a node. The state machine's rows lie in the default column family, under one-byte kinds
(`keys.py`), because rocksdict's snapshots cover one family only; the Raft log has a family of its own,
so that its range deletions never slow a scan of documents. Both share one write-ahead log: a sync of the
Raft log makes every earlier apply batch durable too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    Checkpoint,
    CompactOptions,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from storage import disk, limits
from storage.errors import FilesRemain, StoreDamaged, StoreInUse
from storage.failures import failure, opening_failure

RAFT_FAMILY = "raft"
_FILES_POLL_S = 0.02
_FIRST_MANIFEST = "MANIFEST-000001"


class Batch:
    """Rows of one atomic write. `put`, `delete` and `delete_range` apply in the order they came."""

    def __init__(self) -> None:
        self._batch = WriteBatch(raw_mode=True)
        self.put = self._batch.put
        self.delete = self._batch.delete
        self.delete_range = self._batch.delete_range

    @property
    def raw(self) -> WriteBatch:
        return self._batch


def _options(write_buffer_size_bytes: int, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_paranoid_checks(True)
    # A torn record at the end of the write-ahead log is what a power cut leaves and holds nothing that
    # was acknowledged; a bad record with good ones behind it is bit rot. RocksDB's default, point in time
    # recovery, silently drops the good ones; this mode refuses to open (docs/adr/0004).
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(write_buffer_size_bytes)
    options.set_max_write_buffer_number(limits.WRITE_BUFFERS_MAX)
    options.set_max_total_wal_size(limits.WAL_SIZE_BYTES_MAX)
    options.set_max_open_files(limits.OPEN_FILES_MAX)
    options.set_max_background_jobs(2)
    options.set_level_zero_file_num_compaction_trigger(limits.LEVEL_ZERO_FILES)
    options.set_level_zero_slowdown_writes_trigger(limits.LEVEL_ZERO_FILES_SLOW)
    options.set_level_zero_stop_writes_trigger(limits.LEVEL_ZERO_FILES_MAX)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(4 << 20)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(16 << 10)
    table.set_bloom_filter(10, False)
    # Index and filter blocks count against the cache, so that memory does not grow with the data. They are
    # partitioned, because the one filter of a large table no longer fits a shard of the cache: it was read
    # again for every lookup, and a bulk load of 1,000,000 documents took 250 s instead of 52 s.
    table.set_cache_index_and_filter_blocks(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    return options


class Engine:
    """One RocksDB, opened. Every method raises `StorageFailed` when RocksDB reports an error."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens (and creates, unless `read_only`) the database in `path`.

        Raises `StoreInUse` when another process holds it, `StorageFailed` when it cannot be opened.
        """
        self._path = path
        self._copying = threading.Lock()
        cache = Cache(limits.BLOCK_CACHE_SIZE_BYTES)
        self._options = _options(limits.WRITE_BUFFER_SIZE_BYTES, cache)
        families = {RAFT_FAMILY: _options(limits.RAFT_WRITE_BUFFER_SIZE_BYTES, cache)}
        access = AccessType.read_only() if read_only else AccessType.read_write()
        try:
            if not read_only:
                path.mkdir(parents=True, exist_ok=True)
            elif not path.is_dir():
                raise FileNotFoundError(f"there is no directory {path}")
            _check_current(path)
            self._database = Rdict(str(path), self._options, column_families=families, access_type=access)
            self._raft = self._database.get_column_family(RAFT_FAMILY)
            self._raft_handle = self._database.get_column_family_handle(RAFT_FAMILY)
        except StoreDamaged:
            raise
        except Exception as error:
            failed = opening_failure(path, error)
            if "/LOCK" in str(error) and failed.errno is None:
                raise StoreInUse(f"{path} is in use by another process: {error}") from error
            raise failed from error
        self._synced = WriteOptions()
        self._synced.sync = True
        self._unsynced = WriteOptions()
        self.raft_rows = RaftRows(self._database, self._raft, self._raft_handle, self._unsynced)

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise failure(f"cannot read row {key.hex()}", error) from error
        return value

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order, as they are when the scan begins."""
        return _scan(self._database, start, end)

    def cursor(self, end: bytes) -> Cursor:
        """A cursor over the rows below `end`."""
        return Cursor(self._database, end)

    def batch(self) -> Batch:
        return Batch()

    def write(self, batch: disk.Batch, *, sync: bool = False) -> None:
        """Writes `batch` atomically; on return it is on disk when `sync` is set."""
        try:
            self._database.write(batch.raw, self._synced if sync else self._unsynced)
        except Exception as error:
            raise failure("cannot write", error) from error

    def last(self, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        """The last row with start <= key < end."""
        rows = self._database.iter()
        rows.seek_for_prev(end)
        if rows.valid() and rows.key() == end:
            rows.prev()
        if not rows.valid():
            _check_end(rows)
            return None
        key: Any = rows.key()
        value: Any = rows.value()
        return (key, value) if key >= start else None

    def checkpoint(self, path: Path) -> None:
        """Makes a copy of the database as it is now in the new directory `path`; its files are hard links.

        May run on a thread of its own; waits while `rewrite` runs. rocksdict lets other threads run while it
        flushes, but not while it makes the checkpoint, which flushes too: so that is done before, and little
        is left to do.
        """
        try:
            with self._copying:
                self._database.flush()
                self._raft.flush()
                Checkpoint(self._database).create_checkpoint(str(path))
        except Exception as error:
            raise failure(f"cannot make a checkpoint in {path}", error) from error

    @property
    def rows_written(self) -> int:
        """How many rows were ever written or deleted."""
        return self._database.latest_sequence_number()

    @property
    def level_zero_files(self) -> int:
        """Memory tables that were written out and are not merged yet, without those of the Raft log."""
        found: int | None = self._database.property_int_value("rocksdb.num-files-at-level0")
        return found or 0

    def merge_level_zero_at(self, files: int) -> None:
        """From now on, merges tables of level 0 when there are so many; at once, if there are."""
        changed = {"level0_file_num_compaction_trigger": str(files)}
        try:
            self._database.set_options(changed)
            self._raft.set_options(changed)
        except Exception as error:
            raise failure("cannot change when tables are merged", error) from error

    def flush(self) -> None:
        """Writes the memory tables to files, so that the next start replays nothing."""
        try:
            self._database.flush()
            self._raft.flush()
        except Exception as error:
            raise failure("cannot flush", error) from error

    def rewrite(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        """Leaves nothing in the files of what was overwritten or deleted among the rows of some ranges
        (start <= key < end), and in the Raft log.

        Waits until the files that held it are gone, the write-ahead log's too. May take seconds, and may
        run on a thread of its own beside the reads and writes of another; no checkpoint is made meanwhile.
        Raises `StorageFailed`, and `FilesRemain`: at once while a copy (hard links) exists, and when a file
        stays.
        """
        with self._copying:
            self._rewrite(ranges)

    def _rewrite(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        # A write-ahead log without a byte, as after a start, holds nothing, and flushing does not end it.
        files = [path for path in self._path.iterdir() if path.suffix in (".log", ".sst")]
        old_files = [path for path in files if _status_of(path).size_bytes]
        if any(_status_of(path).links > 1 for path in old_files):
            raise FilesRemain("a copy of the database shares its files")
        options = CompactOptions()
        # The lowest level too: by default RocksDB leaves its files alone when nothing above them overlaps.
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        options.set_exclusive_manual_compaction(False)
        self.flush()
        try:
            for start, end in ranges:
                self._database.compact_range(start, end, options)
            self._raft.compact_range(None, None, options)
        except Exception as error:
            raise failure("cannot compact", error) from error
        deadline = time.monotonic() + limits.ERASURE_FILES_TIMEOUT_S
        while left := self._left_over(old_files):
            if time.monotonic() > deadline:
                raise FilesRemain(f"files that are not needed any more stay: {', '.join(left)}")
            time.sleep(_FILES_POLL_S)

    def _left_over(self, old_files: list[Path]) -> list[str]:
        """Those that still exist, and are not files that hold what is current."""
        live = {str(file["name"]).lstrip("/") for file in self._database.live_files()}
        return [path.name for path in old_files if path.name not in live and path.exists()]

    def close(self) -> None:
        """Closes the database. RocksDB gives its lock back only once nothing refers to it any more,
        so the engine forgets its handles; using it afterwards raises AttributeError."""
        self.raft_rows.close()
        self._raft.close()
        self._database.close()
        del self._raft, self._raft_handle, self._database


def _check_current(path: Path) -> None:
    """Raises StoreDamaged for a database that RocksDB would take for an empty directory, and begin anew."""
    # The first MANIFEST is older than CURRENT: a node may have died between the two.
    others = [each for each in path.glob("MANIFEST-*") if each.name != _FIRST_MANIFEST]
    if others and not (path / "CURRENT").exists():
        raise StoreDamaged(f"cannot open {path}: CURRENT is missing beside {others[0].name}", file="CURRENT")


def _check_end(rows: RdictIter) -> None:
    """An iterator that hits a bad block just ends; only its status says that it did not reach the end."""
    try:
        rows.status()
    except Exception as error:
        raise failure("cannot read", error) from error


class _FileStatus(NamedTuple):
    links: int
    size_bytes: int


def _status_of(path: Path) -> _FileStatus:
    """Of a file that RocksDB may have removed meanwhile: nothing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return _FileStatus(0, 0)
    return _FileStatus(status.st_nlink, status.st_size)


class Cursor:
    """A position among the rows of one database, for walks that jump.

    `seek` goes to the first row at or after a key and returns it, or None past the end. The end is
    compared here and not given to RocksDB as `iterate_upper_bound`: rocksdict 0.3.29 lets go of the
    bound's memory while the iterator still points to it, and rows beyond it came back.
    """

    def __init__(self, database: Rdict, end: bytes) -> None:
        self._rows = database.iter()
        self._end = end

    def _row(self) -> tuple[bytes, bytes] | None:
        if self._rows.valid():
            key: Any = self._rows.key()
            if key >= self._end:
                return None
            value: Any = self._rows.value()
            return key, value
        _check_end(self._rows)
        return None

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        self._rows.seek(key)
        return self._row()

    def next(self) -> tuple[bytes, bytes] | None:
        self._rows.next()
        return self._row()


def _scan(database: Rdict, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = Cursor(database, end)
    row = cursor.seek(start)
    while row is not None:
        yield row
        row = cursor.next()


class RaftRows:
    """The Raft log's rows; satisfies `consensus.log.LogStore` without knowing it."""

    def __init__(self, database: Rdict, family: Rdict, handle: Any, unsynced: WriteOptions) -> None:
        self._database = database
        self._family = family
        self._handle = handle
        self._unsynced = unsynced

    def close(self) -> None:
        del self._database, self._family, self._handle

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """One atomic batch, on disk after `sync`. Deletions go first, so that a suffix can be replaced in one
        step."""
        batch = WriteBatch(raw_mode=True)
        for start, end in delete_ranges:
            batch.delete_range(start, end, self._handle)
        for key, value in puts:
            batch.put(key, value, self._handle)
        try:
            self._database.write(batch, self._unsynced)
        except Exception as error:
            raise failure("cannot write the Raft log", error) from error

    def sync(self) -> None:
        """Everything written so far, the state machine's rows too, is on disk when this returns: they share
        one write-ahead log. May run on a thread of its own; others go on meanwhile."""
        try:
            self._database.flush_wal(sync=True)
        except Exception as error:
            raise failure("cannot sync the write-ahead log", error) from error

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._family.get(key)
        except Exception as error:
            raise failure(f"cannot read Raft row {key.hex()}", error) from error
        return value

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in key order."""
        return _scan(self._family, start, end)
