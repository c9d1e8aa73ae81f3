"""Strict serializability of appends to lists, from the lists alone: no version and no block is believed.

After Elle (Kingsbury and Alvaro, VLDB 2021): every element is unique, so the longest list that anybody saw is
the order of all appends to it, and each list seen is a prefix of it. From that follow who came before whom,
and a cycle among these is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.cycles import add_real_time, contradictions
from chaos.history import Operation

_NEVER_NS = 1 << 62
LIST = "list"
"""The member of a document that holds its list."""


class _Seen(NamedTuple):
    """A list as one operation saw it, or wrote it."""

    key: str
    elements: list[object]
    by: int


def check(history: Sequence[Operation]) -> list[Anomaly]:
    """Of appends and strong reads of lists, those that contradict each other."""
    reads = [each for each in history if each.kind == "get" and each.outcome == "ok"]
    appends = [each for each in history if each.kind == "append"]
    done = [*reads, *appends]
    seen = [each for number, operation in enumerate(done) for each in _seen(operation, number)]
    orders: dict[str, list[object]] = {}
    _prolong(orders, seen)
    # An append without an answer happened if anybody saw an element of it, and then it did all it wanted to.
    doubtful = {number for number, each in enumerate(done) if each.outcome == "unknown"}
    while happened := {number for number in doubtful if _is_seen(done[number], orders)}:
        doubtful -= happened
        shown = [each for number in happened for each in _written(done[number], number)]
        _prolong(orders, shown)
        seen += shown
    appenders = {
        (write.key, _elements(write.data)[-1]): number
        for number, operation in enumerate(done)
        for write in operation.writes
    }
    found = [*_orders(seen, orders, done), *_appenders(orders, appenders, done)]
    if found:
        return found
    return _cycles(done, seen, orders, appenders)


def _prolong(orders: dict[str, list[object]], seen: Iterable[_Seen]) -> None:
    for each in seen:
        if len(each.elements) > len(orders.get(each.key, [])):
            orders[each.key] = each.elements


def _is_seen(append: Operation, orders: dict[str, list[object]]) -> bool:
    return any(_elements(write.data)[-1] in orders.get(write.key, []) for write in append.writes)


def _seen(operation: Operation, number: int) -> Iterator[_Seen]:
    if not operation.writes:
        if operation.version is None or (operation.data is not None and LIST in operation.data):
            yield _Seen(operation.key, _elements(operation.data), number)
    elif operation.outcome == "ok":
        yield from _written(operation, number)


def _written(append: Operation, number: int) -> Iterator[_Seen]:
    for write in append.writes:
        yield _Seen(write.key, _elements(write.data), number)


def _elements(data: dict[str, object] | None) -> list[object]:
    found = None if data is None else data.get(LIST)
    return list(found) if isinstance(found, list) else []


def _orders(
    seen: Sequence[_Seen], orders: dict[str, list[object]], done: Sequence[Operation]
) -> Iterator[Anomaly]:
    for each in seen:
        if orders.get(each.key, [])[: len(each.elements)] != each.elements:
            what = f"{each.key}: {each.elements} was seen, which is no beginning of {orders.get(each.key)}"
            yield Anomaly("lists only grow at their end", what, (done[each.by],))
    for key, order in orders.items():
        if len(set(map(repr, order))) < len(order):
            yield Anomaly("an element is appended once", f"{key}: {order}")


def _appenders(
    orders: dict[str, list[object]], appenders: dict[tuple[str, object], int], done: Sequence[Operation]
) -> Iterator[Anomaly]:
    for key, order in orders.items():
        for element in order:
            appender = appenders.get((key, element))
            if appender is None:
                yield Anomaly("every element was appended", f"{key} holds {element}, which nobody appended")
            elif done[appender].outcome == "refused":
                what = f"{key} holds {element}, whose append was refused"
                yield Anomaly("a refused append has no effect", what, (done[appender],))


def _cycles(
    done: Sequence[Operation],
    seen: Sequence[_Seen],
    orders: dict[str, list[object]],
    appenders: dict[tuple[str, object], int],
) -> list[Anomaly]:
    edges: list[set[int]] = [set() for _ in done]
    for key, order in orders.items():
        for before, after in pairwise(order):
            edges[appenders[key, before]].add(appenders[key, after])
    for each in seen:
        order, length = orders.get(each.key, []), len(each.elements)
        if length:
            edges[appenders[each.key, order[length - 1]]].add(each.by)
        if length < len(order):
            edges[each.by].add(appenders[each.key, order[length]])
    for number, targets in enumerate(edges):
        targets.discard(number)
    add_real_time([_certain(each) for each in done], edges)
    return contradictions(done, edges, "appends are strictly serializable")


def _certain(operation: Operation) -> Operation:
    """An append without an answer that happened: it may have at any time after it began."""
    return operation if operation.outcome == "ok" else replace(operation, completed_ns=_NEVER_NS)
