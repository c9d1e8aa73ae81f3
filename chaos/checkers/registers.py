"""Linearizability of registers, by search: nothing of what the ledger itself says about order is believed.

The algorithm of Wing and Gong (1993) with the memory of Lowe ("Testing for linearizability", 2017): take one
operation after another that could come next, remember which (set of operations taken, value) led nowhere.
A history of many registers is linearizable exactly when that of each register is (Herlihy and Wing 1990,
locality), so each is searched alone. The search is exponential in the worst case: it has a bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from chaos.checkers.anomaly import Anomaly
from chaos.history import Operation

CLIENTS_A_KEY_MAX = 10
"""With more at once the search does not end; see CONSENSUS.md, "Checking"."""

_NEVER_NS = 1 << 62
_CLOCK_EVERY = 64

StepKind = Literal["read", "write", "compare and set"]

Verdict = Literal["linearizable", "not linearizable", "not decided"]


class Step(NamedTuple):
    """One operation on one register. `expected` is what a compare-and-set wants to find; of a read, what it
    found. A step that may never have happened (`certain` is False) can come at any time after it began, or
    never. Values compare by ==; None is the register that was never written or is deleted."""

    kind: StepKind
    began_ns: int
    ended_ns: int
    expected: object
    written: object
    certain: bool = True


class _State(NamedTuple):
    """What has been taken: all certain steps before `first`, those of the bits of `window` behind it, and the
    doubtful ones of the bits of `doubts`. Relative to `first`, so that long histories keep small states."""

    first: int
    window: int
    doubts: int
    value: object


def linearizable(steps: Sequence[Step], *, deadline_s: float | None = None) -> Verdict:
    """Whether some order of `steps` explains them all; a register begins as None.

    `deadline_s` is of time.monotonic(); past it the answer is "not decided".
    """
    ordered = sorted(steps, key=lambda step: step.began_ns)
    certain = [step for step in ordered if step.certain]
    doubtful = [step for step in ordered if not step.certain]
    stack = [_State(0, 0, 0, None)]
    seen = set(stack)
    tried = 0
    while stack:
        state = stack.pop()
        if state.first == len(certain):
            return "linearizable"
        tried += 1
        if deadline_s is not None and tried % _CLOCK_EVERY == 0 and time.monotonic() > deadline_s:
            return "not decided"
        for following in _next(certain, doubtful, state):
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return "not linearizable"


def _next(certain: Sequence[Step], doubtful: Sequence[Step], state: _State) -> list[_State]:
    """What can come next: no step that began when another that is not taken had ended. The likeliest last."""
    ends_first_ns = _NEVER_NS
    open_steps: list[tuple[int, Step]] = []
    for at in range(state.first, len(certain)):
        step = certain[at]
        if step.began_ns > ends_first_ns:
            break  # So did all that follow: they are in the order of their beginning.
        if not state.window >> (at - state.first) & 1:
            open_steps.append((at, step))
            ends_first_ns = min(ends_first_ns, step.ended_ns)
    possible: list[_State] = []
    for number, step in enumerate(doubtful):
        if step.began_ns > ends_first_ns:
            break
        if not state.doubts >> number & 1 and _fits(step, state.value):
            possible.append(
                state._replace(doubts=state.doubts | 1 << number, value=_after(step, state.value))
            )
    for at, step in sorted(open_steps, key=lambda each: each[1].ended_ns, reverse=True):
        if step.began_ns <= ends_first_ns and _fits(step, state.value):
            first, window = state.first, state.window | 1 << (at - state.first)
            while window & 1:
                first, window = first + 1, window >> 1
            possible.append(_State(first, window, state.doubts, _after(step, state.value)))
    return possible


def _fits(step: Step, value: object) -> bool:
    return step.kind == "write" or step.expected == value


def _after(step: Step, value: object) -> object:
    return value if step.kind == "read" else step.written


def check(history: Sequence[Operation], *, timeout_s: float) -> list[Anomaly]:
    """The registers that no order explains."""
    return anomalies(search(history, timeout_s=timeout_s))


def search(history: Sequence[Operation], *, timeout_s: float) -> dict[tuple[str, str], Verdict]:
    """Every register alone: documents that only single puts, deletes and reads touch.

    What takes longer than `timeout_s` in all, or has more than CLIENTS_A_KEY_MAX clients at once, is left to
    the ledger checker, which needs no search.
    """
    deadline_s = time.monotonic() + timeout_s
    return {
        document: linearizable(steps_of(operations), deadline_s=deadline_s)
        for document, operations in sorted(_registers(history).items())
        if len({each.client for each in operations}) <= CLIENTS_A_KEY_MAX
    }


def anomalies(verdicts: Mapping[tuple[str, str], Verdict]) -> list[Anomaly]:
    return [
        Anomaly("registers are linearizable", f"no order explains what was seen of {table}/{key}")
        for (table, key), verdict in verdicts.items()
        if verdict == "not linearizable"
    ]


def _registers(history: Iterable[Operation]) -> dict[tuple[str, str], list[Operation]]:
    registers: dict[tuple[str, str], list[Operation]] = {}
    shared: set[tuple[str, str]] = set()
    for each in history:
        documents = [(write.table, write.key) for write in each.writes] or [(each.table, each.key)]
        if len(documents) > 1:
            shared.update(documents)
        else:
            registers.setdefault(documents[0], []).append(each)
    return {document: each for document, each in registers.items() if document not in shared}


def steps_of(operations: Sequence[Operation]) -> list[Step]:
    """The operations of one register as steps. Documents written are unique, so a document is its identity.

    A write without an answer that somebody saw did happen; one that nobody saw may as well not have. Only
    of deletions without an answer nothing is known. What was refused says nothing here: whether rightly,
    the journal tells (ledger.py).
    """
    seen = {_value(each.data) for each in operations if not each.writes}
    seen |= {_value(each.over) for each in operations if each.over is not None}
    steps: list[Step] = []
    for each in operations:
        if not each.writes:
            if each.outcome == "ok":
                steps.append(Step("read", each.invoked_ns, each.completed_ns, _value(each.data), None))
        elif each.outcome != "refused":
            done, written = each.outcome == "ok", _value(each.writes[0].data)
            if done or written is None or written in seen:
                ended_ns = each.completed_ns if done else _NEVER_NS
                kind: StepKind = "write" if each.over is None else "compare and set"
                certain = done or written is not None
                steps.append(Step(kind, each.invoked_ns, ended_ns, _value(each.over), written, certain))
    return steps


def _value(data: dict[str, object] | None) -> object:
    return None if data is None else repr(sorted(data.items()))
