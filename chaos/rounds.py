"""A run is judged round by round, so that an hour of it fits into memory.

Every so often clients leave their documents and take new ones, whose keys begin with the number of the round.
Registers, accounts and lists of one round have nothing to do with those of another (Herlihy and Wing 1990,
locality), and a search over a short round ends. The order of blocks in time is checked across rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from chaos.checkers.journal import Journal, Revision
from chaos.history import Operation

_LAG = 3
"""Rounds that may still get something while later ones go on: answers and commits come late."""

Item = TypeVar("Item")


class LateComer(Exception):
    """Something belongs to a round that has long been judged."""


def key_in(number: int, name: str) -> str:
    return f"{number}.{name}"


def round_of(key: str) -> int:
    """0 for a key without a round."""
    number, dot, _ = key.partition(".")
    return int(number) if dot and number.isdecimal() else 0


def of_history(history: Iterable[Operation]) -> Iterator[tuple[int, list[Operation]]]:
    """Each round's operations, in the order of the rounds. Raises LateComer."""
    return _grouped((round_of(each.writes[0].key if each.writes else each.key), each) for each in history)


def of_journal(revisions: Iterable[Revision]) -> Iterator[tuple[int, list[Revision]]]:
    """Each round's revisions, in the order of the rounds. Raises LateComer."""
    return _grouped((round_of(each.key), each) for each in revisions)


def _grouped(items: Iterable[tuple[int, Item]]) -> Iterator[tuple[int, list[Item]]]:
    waiting: dict[int, list[Item]] = {}
    judged = -1
    for number, item in items:
        if number <= judged:
            raise LateComer(f"round {number} was over when {item} came")
        waiting.setdefault(number, []).append(item)
        while min(waiting) < number - _LAG:
            judged = min(waiting)
            yield judged, waiting.pop(judged)
    for number in sorted(waiting):
        yield number, waiting[number]


def together(
    histories: Iterator[tuple[int, list[Operation]]], journals: Iterator[tuple[int, list[Revision]]]
) -> Iterator[tuple[int, list[Operation], Journal]]:
    """What clients saw of each round, and what became of it; one of the two may be empty."""
    history, journal = next(histories, None), next(journals, None)
    while history is not None or journal is not None:
        number = min(each[0] for each in (history, journal) if each is not None)
        operations: list[Operation] = []
        revisions: list[Revision] = []
        if history is not None and history[0] == number:
            operations, history = history[1], next(histories, None)
        if journal is not None and journal[0] == number:
            revisions, journal = journal[1], next(journals, None)
        yield number, operations, Journal(revisions)
