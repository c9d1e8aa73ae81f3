"""The cycle search agrees with trying every serial order, on small random histories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

import pytest

from chaos.checkers.cycles import check
from chaos.history import Operation, Write


def write(began: int, ended: int, **versions: int) -> Operation:
    writes = tuple(Write("t", key, {"n": 1}, version) for key, version in versions.items())
    return Operation(
        client=0,
        kind="transfer",
        ledger="l",
        writes=writes,
        invoked_ns=began,
        completed_ns=ended,
        outcome="ok",
    )


def read(began: int, ended: int, key: str, version: int | None) -> Operation:
    return Operation(
        client=0,
        kind="get",
        ledger="l",
        table="t",
        key=key,
        invoked_ns=began,
        completed_ns=ended,
        outcome="ok",
        version=version,
    )


def by_force(history: Sequence[Operation]) -> bool:
    """Whether one order explains all: each version over the one before, each read what is there."""
    return any(_explains(order) for order in itertools.permutations(history))


def _explains(order: Sequence[Operation]) -> bool:
    newest: dict[str, int] = {}
    for at, each in enumerate(order):
        if any(later.completed_ns < each.invoked_ns for later in order[at:]):
            return False
        if not each.writes and newest.get(each.key, -1) != (-1 if each.version is None else each.version):
            return False
        for one in each.writes:
            if one.version is None or one.version != newest.get(one.key, -1) + 1:
                return False
            newest[one.key] = one.version
    return True


def random_history(random: Random) -> list[Operation]:
    """Two transactions that write a and b, one that writes a, two reads; each version by one of them."""
    orders = {"a": random.sample(range(3), 3), "b": random.sample(range(2), 2)}

    def times() -> tuple[int, int]:
        began = random.randrange(12)
        return began, began + random.randrange(1, 12)

    writes = [
        write(*times(), **{key: order[number] for key, order in orders.items() if number < len(order)})
        for number in range(3)
    ]
    reads = [read(*times(), key, random.choice([None, 0, 1])) for key in ("a", "b")]
    return [*writes, *reads]


def test_small_histories() -> None:
    random = Random(5)
    counts = {True: 0, False: 0}
    for _ in range(1_500):
        history = random_history(random)
        right = by_force(history)
        counts[right] += 1
        assert (check(history) == []) == right, history
    assert min(counts.values()) > 50


@pytest.mark.parametrize("real_time", [True, False])
def test_two_documents_written_in_opposite_orders(real_time: bool) -> None:
    crossed = [write(0, 9, a=0, b=1), write(0, 9, a=1, b=0)]
    assert [each.promise for each in check(crossed, real_time=real_time)] == [
        "transactions are strictly serializable"
    ]


def test_a_stale_read_is_serializable_but_not_strictly() -> None:
    history = [write(0, 1, a=0), write(2, 3, a=1), read(4, 5, "a", 0)]
    assert check(history, real_time=False) == []
    assert len(check(history)[0].operations) == 2


def test_one_version_for_two_writers() -> None:
    assert check([write(0, 1, a=0), write(2, 3, a=0)])[0].promise == "a version is written once"
