"""The checker of lists agrees with trying every serial order, on small random histories."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from random import Random

from chaos.checkers.lists import check
from chaos.history import Operation, Outcome, Write


def append(began: int, ended: int, outcome: Outcome, lists: Mapping[str, list[int]]) -> Operation:
    return Operation(
        client=0,
        kind="append",
        ledger="l",
        writes=tuple(Write("t", key, {"list": each}) for key, each in lists.items()),
        invoked_ns=began,
        completed_ns=ended,
        outcome=outcome,
    )


def read(began: int, ended: int, key: str, elements: list[int]) -> Operation:
    return Operation(
        client=0,
        kind="get",
        ledger="l",
        table="t",
        key=key,
        invoked_ns=began,
        completed_ns=ended,
        outcome="ok",
        version=0 if elements else None,
        data={"list": elements} if elements else None,
    )


def by_force(history: Sequence[Operation]) -> bool:
    """Whether one order of what was done, with some of what may have been, explains all that was seen."""
    done = [each for each in history if each.outcome == "ok"]
    doubtful = [each for each in history if each.outcome == "unknown"]
    for count in range(len(doubtful) + 1):
        for some in itertools.combinations(doubtful, count):
            if any(_explains(order) for order in itertools.permutations([*done, *some])):
                return True
    return False


def _explains(order: Sequence[Operation]) -> bool:
    lists: dict[str, list[object]] = {}
    for at, each in enumerate(order):
        if any(later.outcome == "ok" and later.completed_ns < each.invoked_ns for later in order[at:]):
            return False
        if not each.writes and lists.get(each.key, []) != _list(each.data):
            return False
        for one in each.writes:
            if _list(one.data)[:-1] != lists.get(one.key, []):
                return False
            lists[one.key] = _list(one.data)
    return True


def _list(data: dict[str, object] | None) -> list[object]:
    found = None if data is None else data["list"]
    return list(found) if isinstance(found, list) else []


def random_history(random: Random) -> list[Operation]:
    """Three appends and two reads: a right order, whose times and now and then whose lists are shaken."""
    lists: dict[str, list[int]] = {"a": [], "b": []}
    history: list[Operation] = []
    for moment in range(5):
        began = max(moment * 4 - random.randrange(9), 0)
        ended = moment * 4 + 1 + random.randrange(9)
        if moment in (1, 3):
            key = random.choice("ab")
            shown = list(lists[key])[: random.choice([None, None, None, -1])]
            history.append(read(began, ended, key, shown))
            continue
        keys = random.choice([["a"], ["b"], ["a", "b"]])
        outcome: Outcome = random.choice(["ok", "ok", "unknown"])
        wanted = {key: [*lists[key], moment] for key in keys}
        if outcome == "ok" or random.random() < 0.5:
            lists |= wanted
        if random.random() < 0.1:
            wanted = {key: [*each[:-2], each[-1]] for key, each in wanted.items()}
        history.append(append(began, ended, outcome, wanted))
    return history


def test_small_histories() -> None:
    random = Random(7)
    counts = {True: 0, False: 0}
    for _ in range(2_000):
        history = random_history(random)
        right = by_force(history)
        counts[right] += 1
        assert (check(history) == []) == right, history
    assert min(counts.values()) > 100


def test_a_refused_append_that_is_seen_is_found() -> None:
    history = [append(0, 1, "refused", {"a": [1]}), read(2, 3, "a", [1])]
    assert [each.promise for each in check(history)] == ["a refused append has no effect"]


def test_an_element_from_nowhere_is_found() -> None:
    assert [each.promise for each in check([read(0, 1, "a", [7])])] == ["every element was appended"]


def test_write_skew_is_found() -> None:
    """Each did not see the other's append."""
    history = [
        append(0, 9, "ok", {"a": [1]}),
        append(0, 9, "ok", {"b": [2]}),
        read(10, 11, "a", []),
    ]
    assert [each.promise for each in check(history)] == ["appends are strictly serializable"]
