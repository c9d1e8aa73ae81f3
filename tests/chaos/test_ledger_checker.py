"""The ledger checker accepts what a correct ledger does, and sees each kind of lie."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chaos.checkers.journal import Journal, Revision
from chaos.checkers.ledger import check
from chaos.history import Kind, Operation, Outcome, Write

TABLE = "t"


class Ledger:
    """A ledger that is right, and clients that see it: a history with overlaps, from a seed."""

    def __init__(self, seed: int, operations: int = 60) -> None:
        self.random = Random(seed)
        self.now_ns = 0
        self.revisions: list[Revision] = []
        self.history: list[Operation] = []
        self.count = 0
        for _ in range(operations):
            self.random.choice((self.put, self.put, self.get, self.delete, self.transfer, self.lost))()

    @property
    def journal(self) -> Journal:
        return Journal(self.revisions)

    def _times(self) -> tuple[int, int]:
        """Began before the moment it takes effect, ended after it; operations overlap."""
        self.now_ns += 10
        return self.now_ns - self.random.randrange(25), self.now_ns + self.random.randrange(25)

    def _current(self, key: str) -> Revision | None:
        return next((each for each in reversed(self.revisions) if each.key == key), None)

    def _append(self, *writes: Write) -> tuple[int, tuple[Write, ...]]:
        seq = self.revisions[-1].seq + 1 if self.revisions else 1
        done = []
        for write in writes:
            current = self._current(write.key)
            version = 0 if current is None else current.version + 1
            self.revisions.append(Revision(seq, TABLE, write.key, version, write.data))
            done.append(replace(write, version=version))
        return seq, tuple(done)

    def _write(self, key: str) -> Write:
        self.count += 1
        return Write(TABLE, key, {"n": self.count})

    def _key(self) -> str:
        return self.random.choice("abc")

    def _record(self, kind: Kind, **members: Any) -> None:
        begin_ns, end_ns = self._times()
        operation = Operation(
            client=0,
            kind=kind,
            ledger="l",
            invoked_ns=begin_ns,
            completed_ns=end_ns,
            **members,
        )
        self.history.append(operation)

    def put(self) -> None:
        seq, writes = self._append(self._write(self._key()))
        self._record("put", writes=writes, outcome="ok", seq=seq)

    def transfer(self) -> None:
        seq, writes = self._append(self._write("a"), self._write("b"))
        self._record("transfer", writes=writes, outcome="ok", seq=seq)

    def delete(self) -> None:
        key = self._key()
        current = self._current(key)
        if current is None or current.data is None:
            self._record("delete", writes=(Write(TABLE, key, None),), outcome="refused")
            return
        seq, writes = self._append(Write(TABLE, key, None))
        self._record("delete", writes=writes, outcome="ok", seq=seq)

    def lost(self) -> None:
        """The answer got lost; whether the write was done is chance."""
        write = self._write(self._key())
        if self.random.random() < 0.5:
            self._append(write)
        self._record("put", writes=(write,), outcome="unknown")

    def get(self) -> None:
        key = self._key()
        current = self._current(key)
        if current is None:
            self._record("get", table=TABLE, key=key, outcome="ok")
        else:
            seq = current.seq if current.data is not None else None
            shown = {"version": current.version, "seq": seq, "data": current.data}
            self._record("get", table=TABLE, key=key, outcome="ok", **shown)


@given(st.integers(0, 10_000))
def test_a_right_ledger_has_no_anomalies(seed: int) -> None:
    ledger = Ledger(seed)
    assert check(ledger.history, ledger.journal) == []


def promises(history: list[Operation], revisions: list[Revision]) -> set[str]:
    return {anomaly.promise for anomaly in check(history, Journal(revisions))}


def put(n: int, begin_ns: int, end_ns: int, seq: int | None = None, outcome: Outcome = "ok") -> Operation:
    return Operation(
        client=0,
        kind="put",
        ledger="l",
        writes=(Write(TABLE, "a", {"n": n}),),
        invoked_ns=begin_ns,
        completed_ns=end_ns,
        outcome=outcome,
        seq=seq,
    )


def get(begin_ns: int, end_ns: int, version: int | None, seq: int | None, n: int | None) -> Operation:
    return Operation(
        client=1,
        kind="get",
        ledger="l",
        table=TABLE,
        key="a",
        invoked_ns=begin_ns,
        completed_ns=end_ns,
        outcome="ok",
        version=version,
        seq=seq,
        data=None if n is None else {"n": n},
    )


def revision(seq: int, version: int, n: int | None) -> Revision:
    return Revision(seq, TABLE, "a", version, None if n is None else {"n": n})


TWO = [revision(1, 0, 1), revision(2, 1, 2)]
LIES: list[tuple[str, Callable[[], tuple[list[Operation], list[Revision]]]]] = [
    ("an acknowledged write is never lost", lambda: ([put(1, 0, 1, 1), put(2, 2, 3, 2)], TWO[:1])),
    (
        "a write happens once",
        lambda: ([put(1, 0, 1, 1)], [revision(1, 0, 1), revision(2, 1, 1)]),
    ),
    ("a refused write has no effect", lambda: ([put(1, 0, 1, None, "refused")], TWO[:1])),
    ("every revision was asked for", lambda: ([put(1, 0, 1, 1)], TWO)),
    (
        "a write comes after those that ended before it began",
        lambda: ([put(2, 0, 1, 2), put(1, 5, 6, 1)], TWO),
    ),
    (
        "a read shows what the journal holds",
        lambda: ([put(1, 0, 1, 1), get(2, 3, 0, 1, 9)], TWO[:1]),
    ),
    (
        "a read shows nothing from the future",
        lambda: ([get(0, 1, 0, 1, 1), put(1, 5, 6, 1)], TWO[:1]),
    ),
    (
        "a strong read is never stale",
        lambda: ([put(1, 0, 1, 1), put(2, 2, 3, 2), get(4, 5, 0, 1, 1)], TWO),
    ),
    (
        "a strong read is never stale",
        lambda: ([put(1, 0, 3, 1), put(2, 0, 9, 2), get(4, 5, 1, 2, 2), get(6, 7, 0, 1, 1)], TWO),
    ),
    ("a strong read is never stale", lambda: ([put(1, 0, 1, 1), get(4, 5, None, None, None)], TWO[:1])),
    ("versions count without gaps", lambda: ([put(1, 0, 1, 1)], [revision(1, 1, 1)])),
]


@pytest.mark.parametrize(("promise", "make"), LIES)
def test_a_lie_is_found(promise: str, make: Callable[[], tuple[list[Operation], list[Revision]]]) -> None:
    assert promise in promises(*make())


def test_half_of_an_unknown_transfer_is_found() -> None:
    transfer = Operation(
        client=0,
        kind="transfer",
        ledger="l",
        writes=(Write(TABLE, "a", {"n": 1}), Write(TABLE, "b", {"n": 1})),
        invoked_ns=0,
        completed_ns=1,
        outcome="unknown",
    )
    assert promises([transfer], TWO[:1]) == {"an unknown write is whole or absent"}
    assert promises([transfer], []) == set()
