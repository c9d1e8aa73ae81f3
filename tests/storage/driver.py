"""Drives a store as the leader would: stamps time, transaction ids and salts from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from stele.format.canonical import canonicalize
from storage.commands import (
    Command,
    Condition,
    CreateLedger,
    CreateTable,
    DropTable,
    Operation,
    Seal,
    Transact,
    encode_group,
)
from storage.outcomes import Committed, Outcome, Refused
from storage.store import Store

LEDGER = "sample"
START_US = 1_790_000_000_000_000


class Driver:
    """Applies commands to one store; the same seed gives the same commands."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self.store = Store.open(path)
        self._random = random.Random(seed)
        self.now = START_US
        self.entries: list[bytes] = []

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def apply(self, *commands: Command) -> list[Outcome]:
        payload = encode_group(commands)
        self.entries.append(payload)
        return self.store.machine.apply(self.store.machine.applied_index + 1, payload)

    def one(self, command: Command) -> Outcome:
        (outcome,) = self.apply(command)
        return outcome

    def create(self, *tables: str) -> None:
        self.one(
            CreateLedger(LEDGER, self.random_bytes(16), self.random_bytes(16), self.tick(), "tester", True)
        )
        for table in tables:
            committed(self.one(self.create_table(table)))

    def create_table(self, table: str) -> CreateTable:
        return CreateTable(LEDGER, table, self.random_bytes(16), self.tick(), "tester", self.random_bytes(32))

    def drop_table(self, table: str) -> DropTable:
        return DropTable(LEDGER, table, self.random_bytes(16), self.tick(), "tester", self.random_bytes(32))

    def seal(self, ledger: str = LEDGER) -> Seal:
        """The seal that a leader with this store would propose."""
        info = self.store.ledger(ledger)
        assert info is not None
        sealed = self.store.sealed(ledger)
        size, root = (0, bytes(32)) if sealed is None else (sealed.size, sealed.root)
        return Seal(ledger, info.id, self.random_bytes(16), self.tick(), "tester", size, root)

    def tick(self) -> int:
        self.now += 1_000
        return self.now

    def put(self, table: str, key: str, value: object) -> Operation:
        return Operation("put", table, key, canonicalize(value), self.random_bytes(32))

    def delete(self, table: str, key: str) -> Operation:
        return Operation("delete", table, key, b"", self.random_bytes(32))

    def transact(
        self,
        *operations: Operation,
        conditions: Sequence[Condition] = (),
        read_seq: int | None = None,
        idempotency_key: str | None = None,
        digest: bytes = b"",
        bulk_line: int | None = None,
        ledger: str = LEDGER,
    ) -> Transact:
        return Transact(
            ledger,
            self.random_bytes(16),
            self.tick(),
            "tester",
            operations,
            tuple(conditions),
            read_seq,
            idempotency_key,
            digest,
            bulk_line,
        )

    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.path)


def committed(outcome: Outcome) -> Committed:
    assert isinstance(outcome, Committed), outcome
    return outcome


def refused(outcome: Outcome) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome
