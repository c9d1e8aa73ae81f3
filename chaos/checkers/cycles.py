"""Strict serializability by cycle search, from what clients saw alone: block numbers are not believed.

Transactions are nodes; what one must come before another is an edge: the next version of a document was
written over the one before (ww), a reader comes after the writer of what it saw (wr) and before the writer of
the version that replaced it (rw; Adya, "Weak consistency", 1999), and what ended comes before what began
later. A cycle is a contradiction. Versions come with every answer, so no order has to be guessed, as Elle
guesses it from lists (Kingsbury and Alvaro, VLDB 2021).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from chaos.checkers.anomaly import Anomaly
from chaos.history import Operation

_Document = tuple[str, str, str]
_SHOWN_MAX = 6


def check(history: Sequence[Operation], *, real_time: bool = True) -> list[Anomaly]:
    """Operations that contradict each other. Without `real_time`: serializability, not strict."""
    done = [each for each in history if each.outcome == "ok"]
    written: dict[_Document, dict[int, int]] = defaultdict(dict)
    found: list[Anomaly] = []
    for number, each in enumerate(done):
        for write in each.writes:
            if write.version is None:
                continue
            first = written[each.ledger, write.table, write.key].setdefault(write.version, number)
            if first != number:
                what = f"version {write.version} of {write.table}/{write.key} was given to both"
                found.append(Anomaly("a version is written once", what, (done[first], each)))
    edges = _dependencies(done, written)
    if real_time:
        add_real_time(done, edges)
    return found + contradictions(done, edges, "transactions are strictly serializable")


def contradictions(done: Sequence[Operation], edges: Sequence[set[int]], promise: str) -> list[Anomaly]:
    """An anomaly for each cycle among `edges`, whose first nodes are the operations `done`."""
    found: list[Anomaly] = []
    for cycle in _cycles(edges):
        operations = tuple(done[number] for number in cycle if number < len(done))
        what = f"{len(operations)} operations that each must come before the next, in a circle"
        found.append(Anomaly(promise, what, operations[:_SHOWN_MAX]))
    return found


def _dependencies(done: Sequence[Operation], written: dict[_Document, dict[int, int]]) -> list[set[int]]:
    """For each operation, those that must come after it by what they read and wrote."""
    edges: list[set[int]] = [set() for _ in done]
    versions = {document: sorted(writers) for document, writers in written.items()}
    for document, order in versions.items():
        writers = written[document]
        for before, after in pairwise(order):
            edges[writers[before]].add(writers[after])
    for number, each in enumerate(done):
        if each.writes:
            continue
        document = each.ledger, each.table, each.key
        order, writers = versions.get(document, []), written.get(document, {})
        shown = -1 if each.version is None else each.version
        if shown in writers:
            edges[writers[shown]].add(number)
        following = bisect_right(order, shown)
        if following < len(order):
            edges[number].add(writers[order[following]])
    for number, targets in enumerate(edges):
        targets.discard(number)
    return edges


def add_real_time(done: Sequence[Operation], edges: list[set[int]]) -> None:
    """Adds a node for each moment at which an operation ended: the operation comes before it, it before the
    next moment, and the last one before an operation began before that. n edges do for n squared."""
    by_end = sorted(range(len(done)), key=lambda number: done[number].completed_ns)
    ends_ns = [done[number].completed_ns for number in by_end]
    first = len(edges)
    for position, number in enumerate(by_end):
        edges[number].add(first + position)
        edges.append({first + position + 1} if position + 1 < len(by_end) else set())
    for number, each in enumerate(done):
        ended = bisect_left(ends_ns, each.invoked_ns)
        if ended:
            edges[first + ended - 1].add(number)


def _cycles(edges: Sequence[set[int]]) -> Iterator[list[int]]:
    """The strongly connected components of more than one node (Tarjan 1972, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_nodes: list[int] = []
    is_open: set[int] = set()
    for start in range(len(edges)):
        if start in index:
            continue
        work = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        open_nodes.append(start)
        is_open.add(start)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    open_nodes.append(target)
                    is_open.add(target)
                    work.append((target, iter(edges[target])))
                    break
                if target in is_open:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = _closed(node, open_nodes, is_open)
                    if len(component) > 1:
                        yield component


def _closed(node: int, open_nodes: list[int], is_open: set[int]) -> list[int]:
    component: list[int] = []
    while not component or component[-1] != node:
        component.append(open_nodes.pop())
        is_open.discard(component[-1])
    return component
