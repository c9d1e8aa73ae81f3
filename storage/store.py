"""The store of one node: opens the database and hands out its parts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from storage import directory, keys, rows
from storage.engine import Batch, Engine, RaftRows
from storage.errors import BlockUnknown, FormatUnknown, LedgerUnknown
from storage.journal import Journal
from storage.ledger_state import LedgerState
from storage.machine import LedgerMachine
from storage.outcomes import Committed, Refused
from storage.view import View

STORE_FORMAT = b"stele-store-1"


class LedgerInfo(NamedTuple):
    """A ledger, as of now. `size` counts its blocks; `created_at` is microseconds since the epoch."""

    name: str
    id: bytes
    number: int
    size: int
    created_at: int
    deletion_protection: bool


class Store:
    """One node's data. Not safe for use from several threads: the node's event loop owns it."""

    def __init__(self, engine: Engine, lock: directory.DirectoryLock) -> None:
        self._lock = lock
        self.engine = engine
        self.machine = LedgerMachine(engine)
        self.raft_rows: RaftRows = engine.raft_rows

    @classmethod
    def open(cls, path: Path, step: directory.Step = directory.nothing) -> Store:
        """Opens the store in the data directory `path`, and makes it when the directory is empty or absent.

        A snapshot that was completed takes the place of its database first. Raises `OSError`, `StoreInUse`,
        `StorageFailed`, `FormatUnknown`, or `InvariantBroken` when what is stored contradicts itself.
        """
        lock = directory.DirectoryLock(path)
        try:
            return cls._open(directory.prepare(path, step), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open(cls, path: Path, lock: directory.DirectoryLock) -> Store:
        engine = Engine(path)
        try:
            stored_format = engine.get(keys.FORMAT)
            if stored_format is None:
                batch = Batch()
                batch.put(keys.FORMAT, STORE_FORMAT)
                engine.write(batch, sync=True)
            elif stored_format != STORE_FORMAT:
                raise FormatUnknown(
                    f"{path} has format {stored_format!r}; this version reads {STORE_FORMAT!r}"
                )
            return cls(engine, lock)
        except BaseException:
            engine.close()
            raise

    def close(self) -> None:
        """Flushes and closes the database. The store must not be used afterwards."""
        try:
            self.engine.flush()
            self.engine.close()
        finally:
            self._lock.release()

    def ledgers(self) -> list[LedgerInfo]:
        """Every ledger, by name."""
        return [_info(state) for _, state in sorted(self.machine.ledgers.items())]

    def ledger(self, name: str) -> LedgerInfo | None:
        state = self.machine.ledgers.get(name)
        return None if state is None else _info(state)

    def view(self, ledger: str, seq: int | None = None) -> View:
        """The ledger as of block `seq`, by default its newest one.

        Raises `LedgerUnknown`, and `BlockUnknown` when there is no such block yet.
        """
        state = self._state(ledger)
        if seq is None:
            seq = state.size - 1
        elif not 0 <= seq < state.size:
            raise BlockUnknown(seq, state.size)
        return View(self.engine, state, seq)

    def journal(self, ledger: str) -> Journal:
        """Raises `LedgerUnknown`."""
        return Journal(self.engine, self._state(ledger))

    def seq_at(self, ledger: str, at: int) -> int | None:
        """The newest block committed at or before `at` microseconds since the epoch, if any."""
        return self.journal(ledger).seq_at(at)

    def transaction(self, ledger: str, tx: bytes) -> Committed | Refused | None:
        """What became of a transaction; None when it never reached this node's applied state."""
        state = self._state(ledger)
        stored = self.engine.get(keys.transaction(state.number, tx))
        if stored is not None:
            return Committed(rows.U64.unpack(stored)[0], 0, tx, ())
        refused = self.engine.get(keys.refusal(state.number, tx))
        return None if refused is None else rows.decode_refusal(refused)

    def save_checkpoint(self, ledger: str, size: int, note: str) -> None:
        """Keeps a signed checkpoint; every one ever issued is kept (DESIGN.md section 2)."""
        batch = Batch()
        batch.put(keys.checkpoint(self._state(ledger).number, size), note.encode())
        self.engine.write(batch)

    def checkpoint(self, ledger: str, size: int) -> str | None:
        """The signed checkpoint that this node issued for `size`, if it did."""
        note = self.engine.get(keys.checkpoint(self._state(ledger).number, size))
        return None if note is None else note.decode()

    def _state(self, ledger: str) -> LedgerState:
        state = self.machine.ledgers.get(ledger)
        if state is None:
            raise LedgerUnknown(ledger)
        return state


def _info(state: LedgerState) -> LedgerInfo:
    row = state.row
    return LedgerInfo(state.name, row.id, row.number, state.size, row.created_at, row.deletion_protection)
