"""One atomic step of the state machine: rows to write, with a view of those already written in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

import msgspec

from storage import keys, rows
from storage.current_rows import CurrentRows
from storage.disk import Disk
from storage.errors import InvariantBroken
from storage.ledger_state import LedgerState, TableState, idempotency_key_of
from storage.limits import REFUSALS_KEPT_PER_LEDGER
from storage.outcomes import Committed, Refused


class Dispute(NamedTuple):
    """A seal's proposer had sealed `size` blocks of a ledger before, with root `theirs`; this replica has
    `own` there, None when it has no such seal. Unlike an outcome it is not the same on every replica."""

    ledger: str
    ledger_id: bytes
    size: int
    theirs: bytes
    own: bytes | None


class Transition:
    """Collects the rows of one Raft entry. Commands of one entry see each other's effects."""

    def __init__(self, disk: Disk, stored_current: CurrentRows) -> None:
        self.disk = disk
        self._stored_current = stored_current
        self.batch = disk.batch()
        self.put = self.batch.put
        self.disputes: list[Dispute] = []
        # What comes by the dozen is put at the end, one kind after the other: RocksDB's memory table needs no
        # search for a row that goes right behind the one before it.
        self.blocks: dict[bytes, bytes] = {}
        self._transactions: dict[bytes, bytes] = {}
        self.current_rows: dict[bytes, bytes] = {}
        self.revision_rows: dict[bytes, bytes] = {}
        self.rewritten: dict[bytes, bytes] = {}
        """Those of `current_rows` that are not the first of their document."""
        self._written_answers: dict[bytes, rows.FirstAnswer] = {}
        self._ledgers: dict[int, LedgerState] = {}
        self._tables: dict[tuple[int, int], TableState] = {}

    def changed(self, state: LedgerState) -> None:
        """The end of this ledger's journal is to be written, once for all commands of the step."""
        self._ledgers[state.number] = state

    def use(self, table: TableState, seq: int) -> None:
        """Block `seq` writes documents of this table."""
        if table.last_seq != seq:
            table.last_seq = seq
            self._tables[table.ledger.number, table.number] = table
        if table.last_key == keys.BEHIND_ALL:
            found = self.disk.last(table.current_prefix, keys.end_of(table.current_prefix))
            table.last_key = table.current_prefix if found is None else found[0]

    @property
    def changed_ledgers(self) -> Iterable[LedgerState]:
        """The ledgers that this step changed and that are still there."""
        return self._ledgers.values()

    def dropped(self, state: LedgerState) -> None:
        """Nothing is to be written of this ledger any more."""
        self._ledgers.pop(state.number, None)
        for table in [key for key in self._tables if key[0] == state.number]:
            del self._tables[table]
        for written in self._put_last():
            for key in [key for key in written if keys.ledger_of(key) == state.number]:
                del written[key]

    def _put_last(self) -> tuple[dict[bytes, bytes], ...]:
        return self.blocks, self._transactions, self.current_rows, self.revision_rows

    def finish(self) -> None:
        """Puts what is put last; call once, before the batch is written."""
        for written in self._put_last():
            for key, row in written.items():
                self.put(key, row)
        for number, state in self._ledgers.items():
            self.put(keys.journal_end(number), state.end_row())
        for (ledger, number), table in self._tables.items():
            self.put(keys.table_use(ledger, number), rows.U64.pack(table.last_seq))

    def written(self) -> None:
        """Call once, after the batch is written."""
        self._stored_current.written(self.rewritten)

    def current(self, table: TableState, key: bytes) -> rows.Current | None:
        """The current revision whose row has this key, deleted ones included."""
        row = self.current_row(table, key)
        return None if row is None else rows.decode_current(row)

    def current_row(self, table: TableState, key: bytes) -> bytes | None:
        """As `current`, not decoded."""
        if key > table.last_key:
            return None
        row = self.current_rows.get(key)
        return self._stored_current.get(key) if row is None else row

    def revised(self, prefix: bytes) -> list[rows.Current]:
        """Current rows under `prefix` that this step wrote."""
        return [rows.decode_current(row) for key, row in self.current_rows.items() if key.startswith(prefix)]

    def set_revision(self, key: bytes, row: bytes) -> None:
        self.revision_rows[key] = row

    def revisions(self, stem: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows of one document's revisions, newest first; `stem` is their key without the place."""
        written = {key: row for key, row in self.revision_rows.items() if key.startswith(stem)}
        # What this step made is newer than all that is on the disk, and may stand there in an older form.
        stored = self.disk.scan(stem, keys.end_of(stem))
        yield from merge(
            sorted(written.items()),
            ((key, row) for key, row in stored if key not in written),
            key=itemgetter(0),
        )

    def first_answer(self, state: LedgerState, key_hash: bytes) -> rows.FirstAnswer | None:
        key = keys.idempotency(state.number, key_hash)
        written = self._written_answers.get(key)
        if written is not None:
            return written
        row = self.disk.get(key)
        return None if row is None else rows.decode_first_answer(row)

    def forget_request(self, state: LedgerState, seq: int) -> None:
        """Drops the digest of the request that made block `seq`, if it came with an idempotency key."""
        key_hashes = [
            key[len(keys.idempotency(state.number, b"")) :]
            for key, answer in self._written_answers.items()
            if isinstance(answer.outcome, Committed) and answer.outcome.seq == seq
        ]
        stored = self.disk.get(keys.block(state.number, seq))
        if stored is not None:
            key = idempotency_key_of(rows.decode_block(stored).information)
            key_hashes += [] if key is None else [hashlib.sha256(key.encode()).digest()]
        for key_hash in key_hashes:
            answer = self.first_answer(state, key_hash)
            # The digest of a bulk stream is not one of its lines (node/http/bulk.py).
            if answer is not None and answer.line is None:
                self.set_first_answer(state, key_hash, msgspec.structs.replace(answer, request_digest=b""))

    def set_first_answer(self, state: LedgerState, key_hash: bytes, answer: rows.FirstAnswer) -> None:
        key = keys.idempotency(state.number, key_hash)
        self._written_answers[key] = answer
        self.put(key, rows.encode(answer))

    def record_commit(
        self, state: LedgerState, outcome: Committed, key_hash: bytes, digest: bytes, line: int | None
    ) -> None:
        """Keeps what became of a committed transaction, by its id and by its idempotency key."""
        self._transactions[keys.transaction(state.number, outcome.tx)] = rows.U64.pack(outcome.seq)
        if key_hash:
            self.set_first_answer(state, key_hash, rows.FirstAnswer(digest, outcome, line))

    def record_refusal(
        self, state: LedgerState, tx: bytes, outcome: Refused, key_hash: bytes, digest: bytes
    ) -> None:
        """Keeps a refusal, which leaves no block, in a ring: the oldest one makes room."""
        number = state.number
        if state.refusals_to - state.refusals_from >= REFUSALS_KEPT_PER_LEDGER:
            self._forget_oldest_refusal(state)
        place = rows.RefusalPlace(tx, key_hash)
        self.put(keys.refusal_ring(number, state.refusals_to), rows.encode(place))
        self.put(keys.refusal(number, tx), rows.encode(outcome))
        if key_hash:
            self.set_first_answer(state, key_hash, rows.FirstAnswer(digest, outcome))
        state.refusals_to += 1
        self.changed(state)

    def _forget_oldest_refusal(self, state: LedgerState) -> None:
        oldest = keys.refusal_ring(state.number, state.refusals_from)
        stored = self.disk.get(oldest)
        if stored is None:
            # A Raft entry holds far fewer commands than the ring, so the oldest is never of this step.
            raise InvariantBroken(f"ledger {state.number}: refusal {state.refusals_from} is missing")
        place = rows.decode_refusal_place(stored)
        self.batch.delete(oldest)
        self.batch.delete(keys.refusal(state.number, place.tx))
        if place.key_hash:
            self.batch.delete(keys.idempotency(state.number, place.key_hash))
        state.refusals_from += 1
