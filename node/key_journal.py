"""The journal of the cluster's keys: the table "keys" of the ledger "$system".

It is a ledger like any other, sealed, signed and cosigned, so that whoever wants to know which keys spoke
when replays and verifies it. Statements are signed by those who may make them (stele.verify.key_history):
whoever commits one, and how, makes no difference.
"""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import structlog

from node.committer import Committer
from node.reads import Reads
from node.stamps import Stamps
from stele.format.canonical import canonicalize
from stele.verify.errors import InvalidKeyStatement, VerificationError
from stele.verify.key_history import KeyHistory, KeyStatement
from storage.commands import Condition, CreateLedger, CreateTable, Operation, Transact
from storage.outcomes import Committed, Refused
from storage.store import Store

SYSTEM_LEDGER = "$system"
KEYS_TABLE = "keys"
_BY = "stele"

_log = structlog.get_logger("node.keys")


class RecordedStatement(NamedTuple):
    """A statement that counts, and the block of the system ledger that holds it."""

    seq: int
    note: str


class KeyJournal:
    """Reads the statements that this node has applied; on the leader, records new ones."""

    def __init__(self, store: Store, committer: Committer, reads: Reads, stamps: Stamps) -> None:
        self._store = store
        self._committer = committer
        self._reads = reads
        self._stamps = stamps
        self._recording = asyncio.Lock()
        self._history = KeyHistory()
        self._statements: list[RecordedStatement] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Blocks of the system ledger as this node has it."""
        info = self._store.ledger(SYSTEM_LEDGER)
        return 0 if info is None else info.size

    def history(self) -> KeyHistory:
        """The keys as of what this node has applied."""
        size = self.size
        if self._size < size:
            journal = self._store.journal(SYSTEM_LEDGER)
            for seq in range(self._size, size):
                for leaf, row in journal.revisions(journal.block(seq)):
                    if row.payload and _is_of_keys(leaf):
                        self._take(seq, row.payload)
            self._size = size
        return self._history

    def statements(self) -> list[RecordedStatement]:
        """Those that count, oldest first."""
        self.history()
        return self._statements

    def _take(self, seq: int, payload: bytes) -> None:
        try:
            note = str(json.loads(payload)["statement"])
            self._history.apply(note)
        except (KeyError, TypeError, VerificationError) as error:
            # No honest leader records such a thing; it changes nothing for anybody.
            _log.error("a statement in the journal does not count", seq=seq, reason=str(error))
        else:
            self._statements.append(RecordedStatement(seq, note))

    async def record(self, note: str) -> RecordedStatement:
        """Commit a statement, on the leader.

        Raises VerificationError when it may not be made, NotLeader, ReadFailed, and what
        Committer.submit raises.
        """
        async with self._recording:
            await self._reads.strong()
            await self._make_table()
            statement = self.history().check(note)
            outcome = await self._committer.submit(self._command(statement, note))
            if isinstance(outcome, Refused):
                raise InvalidKeyStatement(f"other statements came first: {outcome.detail}")
            if not isinstance(outcome, Committed):
                raise TypeError(f"a transaction cannot have the outcome {type(outcome).__name__}")
            return RecordedStatement(outcome.seq, note)

    def _command(self, statement: KeyStatement, note: str) -> Transact:
        key = "log" if statement.node_id is None else f"replica:{statement.node_id}"
        at = self._stamps.now_us()
        return Transact(
            SYSTEM_LEDGER,
            self._stamps.transaction_id(at),
            at,
            _BY,
            (Operation("put", KEYS_TABLE, key, canonicalize({"statement": note}), self._stamps.salt()),),
            # The statement was checked against this history, and no other.
            (Condition(KEYS_TABLE, None, None, None, "unchanged"),),
            self.size - 1,
        )

    async def _make_table(self) -> None:
        """Raises InvalidKeyStatement when the cluster has no room for another ledger."""
        stamps = self._stamps
        if self._store.ledger(SYSTEM_LEDGER) is None:
            at = stamps.now_us()
            outcome = await self._committer.submit(
                CreateLedger(SYSTEM_LEDGER, stamps.ledger_id(), stamps.transaction_id(at), at, _BY, True)
            )
            if isinstance(outcome, Refused):
                raise InvalidKeyStatement(f"there is no ledger for statements: {outcome.detail}")
        if self._store.view(SYSTEM_LEDGER).table(KEYS_TABLE) is None:
            at = stamps.now_us()
            await self._committer.submit(
                CreateTable(SYSTEM_LEDGER, KEYS_TABLE, stamps.transaction_id(at), at, _BY, stamps.salt())
            )


def _is_of_keys(leaf: bytes) -> bool:
    return str(json.loads(leaf)["table"]).startswith(f"{KEYS_TABLE}@")
