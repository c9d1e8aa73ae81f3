"""The search for a linear order agrees with trying every order, on every small history there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from random import Random

import pytest

from chaos.checkers.registers import Step, check, linearizable
from chaos.history import Operation, Outcome, Write

INTERVALS = [(0, 3), (0, 9), (1, 2), (4, 6), (5, 8), (7, 9)]


def by_force(steps: Sequence[Step]) -> bool:
    """Tries every subset of what is uncertain, in every order that real time allows."""
    certain = [step for step in steps if step.certain]
    doubtful = [step for step in steps if not step.certain]
    for count in range(len(doubtful) + 1):
        for chosen in itertools.combinations(doubtful, count):
            if any(_explains(order) for order in itertools.permutations([*certain, *chosen])):
                return True
    return False


def _explains(order: Sequence[Step]) -> bool:
    value: object = None
    for at, step in enumerate(order):
        if any(later.certain and later.ended_ns < step.began_ns for later in order[at:]):
            return False
        if step.kind != "write" and step.expected != value:
            return False
        if step.kind != "read":
            value = step.written
    return True


def every_step(times: tuple[int, int]) -> Iterator[Step]:
    for value in (None, 1, 2):
        yield Step("read", *times, value, None)
    for value in (1, 2):
        yield Step("write", *times, None, value)
        yield Step("write", *times, None, value, certain=False)
    yield Step("compare and set", *times, 1, 2)


def judged(histories: Iterable[Sequence[Step]]) -> tuple[int, int]:
    right = wrong = 0
    for steps in histories:
        expected = by_force(steps)
        assert (linearizable(steps) == "linearizable") == expected, steps
        right, wrong = right + expected, wrong + (not expected)
    return right, wrong


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_small_history(count: int) -> None:
    times = (
        itertools.combinations(INTERVALS, count) if count > 2 else itertools.product(INTERVALS, repeat=count)
    )
    histories = (steps for each in times for steps in itertools.product(*map(every_step, each)))
    right, wrong = judged(histories)
    assert right
    assert wrong


def test_random_histories_of_six() -> None:
    random = Random(7)
    steps = [step for times in INTERVALS for step in every_step(times)]
    right, wrong = judged([random.sample(steps, 5) for _ in range(1_500)])
    assert right > 20
    assert wrong > 100


def operation(
    client: int,
    began: int,
    ended: int,
    *,
    put: int | None = None,
    saw: int | None = None,
    outcome: Outcome = "ok",
) -> Operation:
    writes = () if put is None else (Write("t", "a", {"n": put}),)
    return Operation(
        client=client,
        kind="get" if put is None else "put",
        ledger="l",
        table="t",
        key="a",
        writes=writes,
        invoked_ns=began,
        completed_ns=ended,
        outcome=outcome,
        data=None if saw is None else {"n": saw},
    )


def test_a_stale_read_is_found_without_any_block_number() -> None:
    history = [operation(0, 0, 1, put=1), operation(0, 2, 3, put=2), operation(1, 4, 5, saw=1)]
    assert [each.promise for each in check(history, timeout_s=5)] == ["registers are linearizable"]


def test_an_unknown_write_may_show_late_or_never() -> None:
    lost = operation(0, 0, 1, put=1, outcome="unknown")
    assert check([lost, operation(1, 5, 6), operation(1, 7, 8, saw=1)], timeout_s=5) == []
    assert check([lost, operation(1, 5, 6)], timeout_s=5) == []
    assert check([lost, operation(1, 5, 6, saw=1), operation(1, 7, 8)], timeout_s=5) != []


def test_the_search_ends_when_time_is_up() -> None:
    writes = [Step("write", 0, 1_000, None, number) for number in range(40)]
    assert (
        linearizable([*writes, Step("read", 2_000, 2_001, "nobody wrote this", None)], deadline_s=0)
        == "not decided"
    )
