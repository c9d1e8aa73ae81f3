"""What clients ask for: a few documents that many want, so that conditions meet and keys come back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from chaos.simulation.model import Place
from node.stamps import Stamps
from storage.commands import (
    Command,
    Condition,
    CreateLedger,
    CreateTable,
    DropLedger,
    DropTable,
    Erase,
    Operation,
    SetLedger,
    Transact,
)
from storage.outcomes import Committed, Outcome, Refused

LEDGERS = ("alpha", "beta")
# Comes and goes, so that the rows of a whole ledger are deleted now and then.
_PASSING_LEDGER = "gamma"
TABLES = ("cars", "people")
_DOCUMENTS = ("a", "b", "c1", "c2")

Make: TypeAlias = Callable[[Stamps], Sequence[Command]]


class Workload:
    """All requests of one history. `learn` and `saw` keep what conditions refer to."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._count = 0
        self._seq = 0
        self._versions: dict[Place, int] = {}
        self._keys: list[tuple[str, str, bytes]] = []
        # The first requests make something to work with; whoever comes first makes it.
        self._setup: list[Make] = [self._creation(name) for name in reversed(LEDGERS)]

    def place(self) -> Place:
        return self._rng.choice(LEDGERS), self._rng.choice(TABLES), self._rng.choice(_DOCUMENTS)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Committed):
                self._seq = outcome.seq
            elif isinstance(outcome, Refused) and not self._setup:
                self._repair(outcome)

    def _repair(self, refused: Refused) -> None:
        """What is not there is made, sooner or later, so that histories do not run dry."""
        of_table = refused.reason in ("table-unknown", "table-dropped")
        if refused.reason == "ledger-unknown" or (of_table and self._rng.random() < 0.3):
            self._setup = [self._creation(name) for name in LEDGERS]

    def saw(self, place: Place, version: int) -> None:
        self._versions[place] = version

    def request(self) -> Make:
        """The next request; called again, what it returns gives the same commands with new stamps."""
        if self._setup:
            return self._setup.pop()
        kind = self._rng.random()
        if kind < 0.03:
            return self._creation(self._rng.choice((*LEDGERS, _PASSING_LEDGER)))
        if kind < 0.06:
            return self._change_of_table()
        if kind < 0.08:
            return self._change_of_ledger()
        if kind < 0.12:
            return self._erasure()
        made = [self._transaction() for _ in range(self._rng.choice((1, 1, 1, 2, 4)))]
        return lambda stamps: [make(stamps) for make in made]

    def _creation(self, name: str) -> Make:
        protected = name != _PASSING_LEDGER

        def make(stamps: Stamps) -> Sequence[Command]:
            at = stamps.now_us()
            ledger_id, tx = stamps.ledger_id(), stamps.transaction_id(at)
            create = CreateLedger(name, ledger_id, tx, at, "simulation", protected)
            return [create, *(_create_table(name, table, stamps) for table in TABLES)]

        return make

    def _change_of_table(self) -> Make:
        ledger, table, _ = self.place()
        if self._rng.random() < 0.6:
            return lambda stamps: [_create_table(ledger, table, stamps)]

        def drop(stamps: Stamps) -> Sequence[Command]:
            at = stamps.now_us()
            return [DropTable(ledger, table, stamps.transaction_id(at), at, "simulation", stamps.salt())]

        return drop

    def _change_of_ledger(self) -> Make:
        if self._rng.random() < 0.5:
            return lambda stamps: [DropLedger(_PASSING_LEDGER)]
        return lambda stamps: [SetLedger(LEDGERS[0], True)]

    def _erasure(self) -> Make:
        """Behind a write of the same document, so that one entry often holds both."""
        ledger, table, key = self.place()
        op, _, _, payload = self._operation((ledger, table, key))
        versions = None if self._rng.random() < 0.3 else (self._rng.randrange(4), self._rng.randrange(4))

        def make(stamps: Stamps) -> Sequence[Command]:
            at = stamps.now_us()
            operation = Operation(op, table, key, payload, stamps.salt())
            write = Transact(ledger, stamps.transaction_id(at), at, "simulation", (operation,))
            tx = stamps.transaction_id(at)
            return [write, Erase(ledger, table, key, versions, "simulation", tx, at, "simulation")]

        return make

    def _transaction(self) -> Callable[[Stamps], Transact]:
        ledger = _PASSING_LEDGER if self._rng.random() < 0.05 else self._rng.choice(LEDGERS)
        places = [(ledger, *self.place()[1:]) for _ in range(self._rng.choice((1, 1, 2, 5)))]
        operations = [self._operation(place) for place in places]
        conditions = tuple(self._condition(place) for place in places[:2] if self._rng.random() < 0.3)
        read_seq = max(0, self._seq - self._rng.randrange(3))
        key, digest = self._idempotency(ledger)

        def make(stamps: Stamps) -> Transact:
            at = stamps.now_us()
            stamped = tuple(
                Operation(op, table, document, payload, stamps.salt())
                for op, table, document, payload in operations
            )
            tx = stamps.transaction_id(at)
            return Transact(ledger, tx, at, "simulation", stamped, conditions, read_seq, key, digest)

        return make

    def _operation(self, place: Place) -> tuple[Literal["put", "delete"], str, str, bytes]:
        _, table, document = place
        if self._rng.random() < 0.15:
            return "delete", table, document, b""
        self._count += 1
        return "put", table, document, b'{"n":%d}' % self._count

    def _condition(self, place: Place) -> Condition:
        _, table, document = place
        match self._rng.randrange(5):
            case 0:
                return Condition(table, document, None, None, "absent")
            case 1:
                return Condition(table, document, None, None, "unchanged")
            case 2:
                return Condition(table, None, document[0], None, "unchanged")
            case 3:
                return Condition(table, None, None, None, "unchanged")
            case _:
                version = self._versions.get(place, 0)
                return Condition(table, document, None, version, "version")

    def _idempotency(self, ledger: str) -> tuple[str | None, bytes]:
        """Mostly a new key; now and then one of before, now and then with another request."""
        chance = self._rng.random()
        if chance < 0.2:
            return None, b""
        if chance < 0.35 and self._keys:
            known_ledger, key, digest = self._rng.choice(self._keys[-20:])
            if known_ledger == ledger:
                return key, digest if self._rng.random() < 0.8 else b"other"
        self._count += 1
        key, digest = f"key-{self._count}", self._rng.randbytes(32)
        self._keys.append((ledger, key, digest))
        return key, digest


def _create_table(ledger: str, table: str, stamps: Stamps) -> CreateTable:
    at = stamps.now_us()
    return CreateTable(ledger, table, stamps.transaction_id(at), at, "simulation", stamps.salt())
