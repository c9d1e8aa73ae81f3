"""The store of one node: opens the database and hands out its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from stele.format.erasure import Erasure, parse_erasure
from stele.format.state_map import StateProof, key_hash
from storage import directory, keys, limits, rows
from storage.checkpoints import CheckpointRows
from storage.engine import Batch, Engine, RaftRows
from storage.errors import BlockUnknown, FormatUnknown, LedgerUnknown, NotSealed, TableUnknown
from storage.journal import Journal
from storage.ledger_state import LedgerState, idempotency_key_of, stored_block
from storage.machine import LedgerMachine
from storage.outcomes import Committed, Refused
from storage.rows import Sealed
from storage.view import View

STORE_FORMAT = b"stele-store-5"
"""Of all rows, the Raft log's too. It changes with any of them, so that a store of another version is called
that, and not damaged."""


def other_format(stored: bytes | None) -> str:
    """What to say of a store whose format row is not STORE_FORMAT."""
    found = "nothing" if stored is None else repr(stored[:64].decode(errors="replace"))
    return (
        f"its format is {found} and this version of Stele reads {STORE_FORMAT.decode()!r}; "
        "use the version that wrote it"
    )


class LedgerInfo(NamedTuple):
    """A ledger, as of now. `size` counts its blocks; `created_at` is microseconds since the epoch."""

    name: str
    id: bytes
    number: int
    size: int
    created_at: int
    deletion_protection: bool


@dataclass(frozen=True)
class ErasureInfo:
    """An erasure: its block, what it names, its Raft entry, and when this node was done with it (microseconds
    since the epoch; 0 before)."""

    block: rows.StoredBlock
    erasure: Erasure
    raft_index: int
    completed_at: int


class PendingErasure(NamedTuple):
    """An erasure that this node still has to complete."""

    ledger: str
    ledger_id: bytes
    seq: int
    row: rows.ErasureRow


class Store:
    """One node's data. Not safe for use from several threads: the node's event loop owns it."""

    def __init__(self, engine: Engine, lock: directory.DirectoryLock) -> None:
        self._lock = lock
        self.engine = engine
        self.machine = LedgerMachine(engine)
        self.raft_rows: RaftRows = engine.raft_rows
        self.checkpoints = CheckpointRows(engine)

    @classmethod
    def open(cls, path: Path, step: directory.Step = directory.nothing) -> Store:
        """Opens the store in the data directory `path`, and makes it when the directory is empty or absent.

        A snapshot that was completed takes the place of its database first. Raises `OSError`, `StoreInUse`,
        `StorageFailed`, `DiskSpaceShort`, `FormatUnknown`, or `InvariantBroken` when what is stored
        contradicts itself.
        """
        lock = directory.DirectoryLock(path)
        try:
            database = directory.prepare(path, step)
            directory.check_room_to_start(path)
            return cls._open(database, lock)
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
                raise FormatUnknown(f"{path} was written by another version: {other_format(stored_format)}")
            return cls(engine, lock)
        except BaseException:
            engine.close()
            raise

    def close(self) -> None:
        """Flushes and closes the database. The store must not be used afterwards."""
        try:
            self.machine.write_back()
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

    def sealed(self, ledger: str) -> Sealed | None:
        """The newest seal that this node has applied, if any. Raises `LedgerUnknown`."""
        return self._state(ledger).sealed

    def seal_at_or_after(self, ledger: str, size: int) -> Sealed | None:
        """The first seal that covers `size` blocks, if there is one yet. Raises `LedgerUnknown`."""
        return next(iter(self.seals(ledger, size, 1)), None)

    def seals(self, ledger: str, from_size: int, limit: int) -> list[Sealed]:
        """Up to `limit` seals whose size is at least `from_size`, in order. Raises `LedgerUnknown`."""
        number = self._state(ledger).number
        end = keys.end_of(keys.of_ledger(b"Z", number))
        found = self.engine.scan(keys.seal(number, from_size), end)
        return [rows.decode_sealed(value) for _, value in islice(found, min(limit, limits.SCAN_LIMIT_MAX))]

    def state_proof(self, ledger: str, table: str, key: str) -> StateProof:
        """What the newest seal's state map says of a document, and the proof of it.

        `table` is a table's id ("name@seq"), or the name of a table that exists or was dropped. The
        revision proven is the one as of that seal: writes since then do not show.

        Raises `LedgerUnknown`, `TableUnknown`, and `NotSealed` when the ledger has no seal yet.
        """
        state = self._state(ledger)
        if state.sealed is None:
            raise NotSealed(ledger, state.size - 1)
        if "@" not in table:
            named = state.tables.get(table)
            if named is None:
                raise TableUnknown(table)
            table = named.id
        return state.map.proof(key_hash(state.row.id, table, key))

    def transaction(self, ledger: str, tx: bytes) -> Committed | Refused | None:
        """What became of a transaction; None when it never reached this node's applied state."""
        state = self._state(ledger)
        stored = self.engine.get(keys.transaction(state.number, tx))
        if stored is not None:
            return Committed(rows.U64.unpack(stored)[0], 0, tx, ())
        refused = self.engine.get(keys.refusal(state.number, tx))
        return None if refused is None else rows.decode_refusal(refused)

    def erasure(self, ledger: str, seq: int) -> ErasureInfo | None:
        """The erasure that block `seq` is, None when it is none. Raises `LedgerUnknown`, `BlockUnknown`."""
        state = self._state(ledger)
        block = self.journal(ledger).block(seq)
        stored = self.engine.get(keys.erasure(state.number, seq))
        if stored is None:
            return None
        row = rows.decode_erasure(stored)
        return ErasureInfo(block, parse_erasure(block.information), row.raft_index, row.completed_at)

    def pending_erasures(self) -> list[PendingErasure]:
        """Those that this node has not completed, of all ledgers."""
        ledgers = self.machine.ledgers.values()
        return [
            PendingErasure(state.name, state.row.id, seq, row)
            for state in ledgers
            for seq, row in state.erasures.items()
        ]

    def rewriting(self, erasures: Iterable[PendingErasure]) -> Callable[[], None]:
        """What leaves nothing of these erasures in this node's files. It may take seconds, may run on a
        thread of its own. Raises `StorageFailed`, and `FilesRemain` while there is a snapshot in the data
        directory, or as `Engine.rewrite` does."""
        documents: list[tuple[int, bytes]] = []
        for erasure in erasures:
            number = self._state(erasure.ledger).number
            stem = keys.revisions_of_table(number, erasure.row.table) + erasure.row.key.encode() + b"\0"
            documents.append((number, stem))
        return partial(self._rewrite, list(dict.fromkeys(documents)))

    def _first_answers(self, number: int, stem: bytes) -> list[tuple[bytes, bytes]]:
        """Where the digests of the requests stood that made the erased revisions of a document: the rows of
        their idempotency keys. All of the ledger's, when those are many: each costs the files around it."""
        prefix = keys.of_ledger(b"I", number)
        found: dict[bytes, None] = {}
        for key, row in self.engine.scan(stem, keys.end_of(stem)):
            if rows.decode_revision(row).erased_by is None:
                continue
            seq, _ = keys.place_of(key[len(stem) :])
            idempotency_key = idempotency_key_of(stored_block(self.engine, number, seq).information)
            if idempotency_key is not None:
                found[keys.idempotency(number, hashlib.sha256(idempotency_key.encode()).digest())] = None
            if len(found) > limits.ERASURE_ANSWERS_APART_MAX:
                return [(prefix, keys.end_of(prefix))]
        return [(row, row + b"\0") for row in found]

    def _rewrite(self, documents: list[tuple[int, bytes]]) -> None:
        # Copies made before hold what they held. Looked at first because this costs less than rewriting.
        self._lock.check_no_copies()
        ranges: list[tuple[bytes, bytes]] = []
        for number, stem in documents:
            ranges += [(stem, keys.end_of(stem)), *self._first_answers(number, stem)]
        self.engine.rewrite(list(dict.fromkeys(ranges)))
        self._lock.check_no_copies()

    def complete_erasure(self, erasure: PendingErasure, at: int) -> None:
        """Remembers that nothing of what was erased is left here, at `at` microseconds since the epoch."""
        state = self.machine.ledgers.get(erasure.ledger)
        if state is None or state.row.id != erasure.ledger_id:
            return  # Dropped meanwhile, and its erasures with it.
        batch = Batch()
        row = msgspec.structs.replace(erasure.row, completed_at=at)
        batch.put(keys.erasure(state.number, erasure.seq), rows.encode(row))
        self.engine.write(batch, sync=True)
        state.erasures.pop(erasure.seq, None)

    def _state(self, ledger: str) -> LedgerState:
        state = self.machine.ledgers.get(ledger)
        if state is None:
            raise LedgerUnknown(ledger)
        return state


def _info(state: LedgerState) -> LedgerInfo:
    row = state.row
    return LedgerInfo(state.name, row.id, row.number, state.size, row.created_at, row.deletion_protection)
