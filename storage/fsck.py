"""Checks a stopped node's store: recomputes everything from the journal and names what differs.

The journal is the source of truth. Its blocks must form a hash chain and their leaves must hash to the
headers' roots, every seal's state root must be that of the revisions before it; every other row
(revisions, current documents, tiles, the state map's buckets, transaction ids, first answers, the
journal's end) must be what the journal says. fsck opens the database read-only and changes nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from storage import directory, keys, rows
from storage.engine import Engine, RaftRows
from storage.errors import NotAStore, StorageFailed, StoreInUse
from storage.findings import Finding, FsckReport, Progress
from storage.fsck_journal import check_journal
from storage.fsck_records import check_records
from storage.fsck_revisions import check_revisions
from storage.store import STORE_FORMAT, other_format

__all__ = ["CheckLog", "Finding", "FsckReport", "Progress", "check", "is_store"]


def is_store(path: Path) -> bool:
    """Whether `path` is the data directory of a node."""
    return (path / directory.STORE / "LOCK").is_file()


CheckLog = Callable[[RaftRows], str | None]
"""Says what is wrong with the Raft log that has these rows, or nothing."""


def check(path: Path, progress: Progress | None = None, check_log: CheckLog | None = None) -> FsckReport:
    """Checks the store in the data directory `path` and reports every row that is wrong.

    `check_log` reads the Raft log, of whose records storage knows nothing.

    A file that RocksDB itself finds damaged (each of its blocks carries a checksum) is a finding too,
    named by file and offset. Raises `StoreInUse` while a node runs on the directory, and `NotAStore` when
    it holds no store; anything else that is wrong with the data is a finding, never an exception.
    """
    report = FsckReport()
    database = path / directory.STORE
    with _locked(database):
        try:
            engine = Engine(database, read_only=True)
        except StorageFailed as error:
            report.add("store", str(error))
            return report
        try:
            stored_format = engine.get(keys.FORMAT)
            if stored_format != STORE_FORMAT:
                report.add("store format", other_format(stored_format))
                return report
            _check_store(engine, report, progress or _silent)
            fault = None if check_log is None else check_log(engine.raft_rows)
            if fault is not None:
                report.add("Raft log", fault)
        except StorageFailed as error:
            report.add("store", str(error))
        finally:
            engine.close()
    return report


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds RocksDB's own lock file: a database opened read-only does not take it, and would be checked
    while a node writes to it."""
    if not is_store(path.parent):
        raise NotAStore(f"{path.parent} is not the data directory of a node: there is no store in it")
    with (path / "LOCK").open("r+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreInUse(f"{path} is in use by another process; stop the node first") from error
        yield


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that goes nowhere."""


def _check_store(engine: Engine, report: FsckReport, progress: Progress) -> None:
    numbers: set[int] = set()
    for key, value in engine.scan(keys.LEDGERS, keys.end_of(keys.LEDGERS)):
        name = key[len(keys.LEDGERS) :].decode(errors="replace")
        try:
            row = rows.decode_ledger(value)
        except msgspec.MsgspecError as error:
            report.add(f"ledger {name!r}", f"its row is unreadable: {error}")
            continue
        numbers.add(row.number)
        report.ledgers += 1
        _check_ledger(engine, report, progress, name, row)
    _check_counters(engine, report, numbers)
    _check_strays(engine, report, numbers)


def _check_ledger(
    engine: Engine, report: FsckReport, progress: Progress, name: str, row: rows.LedgerRow
) -> None:
    where = f"ledger {name!r}"
    try:
        journal = check_journal(engine, report, progress, name, row)
        check_revisions(engine, report, progress, name, row.number, journal)
        check_records(engine, report, name, row.number, journal)
    except StorageFailed as error:
        report.add(where, str(error))


def _check_counters(engine: Engine, report: FsckReport, numbers: set[int]) -> None:
    for key in (keys.APPLIED_INDEX, keys.NEXT_LEDGER):
        stored = engine.get(key)
        if stored is not None and len(stored) != rows.U64.size:
            report.add(f"row {key.decode()}", f"it has {len(stored)} bytes, not {rows.U64.size}")
    stored_next = engine.get(keys.NEXT_LEDGER)
    next_ledger = 1 if stored_next is None else int.from_bytes(stored_next, "big")
    if numbers and max(numbers) >= next_ledger:
        report.add("row Mnext-ledger", f"it says {next_ledger}, but ledger number {max(numbers)} exists")


def _check_strays(engine: Engine, report: FsckReport, numbers: set[int]) -> None:
    """Rows that belong to nothing: an unknown kind, or a ledger that is not listed."""
    known_meta = {keys.APPLIED_INDEX, keys.COSIGNER, keys.FORMAT, keys.NEXT_LEDGER}
    for key, _ in engine.scan(*keys.EVERYTHING):
        report.rows += 1
        kind = key[:1]
        if kind in (keys.LEDGERS, keys.DROPPED_LEDGERS) or key in known_meta:
            continue
        listed = len(key) >= 5 and int.from_bytes(key[1:5], "big") in numbers
        if kind not in {bytes([one]) for one in keys.PER_LEDGER_KINDS} or not listed:
            report.add(f"row {key[:64].hex()}", "no ledger has such a row")
