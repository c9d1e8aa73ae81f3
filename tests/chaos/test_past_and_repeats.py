"""Reads of the past, repeated requests, rounds, and the outline of a history."""

from __future__ import annotations

from typing import Any

import pytest

from chaos import rounds
from chaos.checkers import ledger, past, repeats
from chaos.checkers.journal import Journal, Revision
from chaos.history import Kind, Operation, Outcome, Shown, Write
from chaos.outline import Outline

AT = [f"2026-01-01T00:00:0{second}.000000Z" for second in range(6)]
JOURNAL = Journal(
    [
        Revision(2, "t", "a", 0, {"n": 1}, AT[1]),
        Revision(3, "t", "a", 1, {"n": 2}, AT[3]),
        Revision(5, "t", "a", 2, None, AT[3]),
    ]
)


def operation(kind: Kind, outcome: Outcome = "ok", **members: Any) -> Operation:
    return Operation(
        client=0, kind=kind, ledger="l", outcome=outcome, invoked_ns=1, completed_ns=2, **members
    )


def as_of(seq: int, version: int | None, n: int | None, at: str = "") -> Operation:
    data = None if n is None else {"n": n}
    return operation("as of", table="t", key="a", as_of_seq=seq, as_of=at, version=version, data=data)


@pytest.mark.parametrize(
    "read",
    [
        as_of(1, None, None),
        as_of(2, 0, 1),
        as_of(4, 1, 2),
        as_of(5, 2, None),
        as_of(2, 0, 1, AT[2]),
        # Two blocks of one time: the second one may have come after the read.
        as_of(3, 1, 2, AT[3]),
        as_of(3, 2, None, AT[3]),
    ],
)
def test_the_past_as_it_was(read: Operation) -> None:
    assert past.check([read], JOURNAL) == []


@pytest.mark.parametrize(
    "read",
    [as_of(1, 0, 1), as_of(2, None, None), as_of(4, 2, None), as_of(4, 1, 1), as_of(2, 1, 2, AT[2])],
)
def test_another_past_is_found(read: Operation) -> None:
    assert [each.promise for each in past.check([read], JOURNAL)] == ["the past stays as it was"]


def history(seq: int, *shown: Shown) -> Operation:
    return operation("history", table="t", key="a", as_of_seq=seq, shown=shown)


def test_histories() -> None:
    gone, second, first = Shown(2, 5, None), Shown(1, 3, {"n": 2}), Shown(0, 2, {"n": 1})
    assert past.check([history(5, gone, second, first), history(4, second)], JOURNAL) == []
    wrong = [
        history(5, gone, first),
        history(4, Shown(1, 4, {"n": 2})),
        history(5, second, first),
        history(5),
    ]
    assert [each.promise for each in past.check(wrong, JOURNAL)] == [
        "a history has no gaps",
        "a history shows what the journal holds",
        "a history is as fresh as was asked",
        "a history is as fresh as was asked",
    ]
    assert past.check([history(1)], JOURNAL) == []


def insert(kind: Kind, seq: int | None, outcome: Outcome = "ok", error: str = "") -> Operation:
    return operation(kind, outcome, writes=(Write("t", "a", {"n": 1}, 0),), seq=seq, error=error)


def test_repeats_have_the_first_answer() -> None:
    once = Journal([Revision(2, "t", "a", 0, {"n": 1})])
    assert repeats.check([insert("insert", None, "unknown"), insert("repeat", 2)], once) == []
    assert repeats.check([insert("insert", None, "unknown")], Journal([])) == []
    promise = "a repeated request has the first answer"
    different = [insert("insert", 2), insert("repeat", 3)]
    refused = [insert("insert", 2), insert("repeat", None, "refused", "version-mismatch")]
    for sent in (different, refused):
        assert [each.promise for each in repeats.check(sent, once)] == [promise]
    twice = Journal([Revision(seq, "t", "a", seq - 2, {"n": 1}) for seq in (2, 3)])
    assert [each.promise for each in repeats.check([insert("insert", 2)], twice)] == [
        "an insert happens once"
    ]


def test_rounds_come_in_order_with_their_journals() -> None:
    keys = ["0.a", "1.a", "0.b", "1.b", "5.a"]
    seen = [operation("get", table="t", key=key) for key in keys]
    written = [Revision(seq, "t", f"{seq}.a", 0, {}) for seq in (1, 2)]
    found = [
        (number, [each.key for each in operations], len(journal.blocks))
        for number, operations, journal in rounds.together(
            rounds.of_history(seen), rounds.of_journal(written)
        )
    ]
    assert found == [(0, ["0.a", "0.b"], 0), (1, ["1.a", "1.b"], 1), (2, [], 1), (5, ["5.a"], 0)]


def test_what_comes_after_its_round_was_judged_is_not_overlooked() -> None:
    late = [operation("get", table="t", key=key) for key in ("0.a", "4.a", "0.b")]
    with pytest.raises(rounds.LateComer):
        list(rounds.of_history(late))


def test_the_order_of_writes_over_a_whole_run() -> None:
    def write(began_ns: int, ended_ns: int, seq: int) -> Operation:
        return Operation(
            client=0,
            kind="put",
            ledger="l",
            outcome="ok",
            writes=(Write("t", f"{seq}.a", {}),),
            seq=seq,
            invoked_ns=began_ns,
            completed_ns=ended_ns,
        )

    assert ledger.check_order([write(0, 5, 2), write(1, 4, 1), write(6, 7, 3)]) == []
    assert len(ledger.check_order([write(0, 5, 2), write(6, 7, 1), write(8, 9, 3)])) == 1


def test_an_outline() -> None:
    outline = Outline(
        Operation(
            client=0,
            kind="put",
            ledger="l",
            outcome="ok" if number != 5 else "unknown",
            error="TimeoutError()" if number == 5 else "",
            writes=(Write("t", "a", {}),),
            invoked_ns=number * 10**8,
            completed_ns=number * 10**8 + (number + 1) * 10**6,
        )
        for number in range(10)
    )
    assert (outline.operations, outline.writes) == (10, 9)
    assert outline.counts["put", "unknown"] == 1
    assert outline.errors == {"TimeoutError": 1}
    assert max(gap.seconds for gap in outline.gaps()) == pytest.approx(0.202)
    median_ms = outline.latency_ms(0.5)
    assert median_ms is not None
    assert median_ms == pytest.approx(5, rel=0.06)
