"""The judgement of a run: every checker over everything that clients saw and all nodes hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from chaos import folder, limits, rounds
from chaos.checkers import bank, checkpoints, cycles, ledger, lists, past, registers, repeats
from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal
from chaos.checkers.replicas import check_exports, lines_of, revisions_of
from chaos.history import Operation, read_history
from chaos.workloads.client import TABLE
from chaos.workloads.mix import OPENING_BALANCE, accounts_of, is_list, is_register
from chaos.workloads.verifying import Held

ANOMALIES_MAX = 200
"""One broken promise tends to show in every round; the first ones tell the story."""

_PAST_OR_REPEATED = frozenset({"as of", "history", "repeat"})


class Collected(NamedTuple):
    """Every node's own export of the journal, and the ledger's verifier key."""

    exports: Mapping[str, Path]
    verifier_key: str


class Judgement(NamedTuple):
    """What was found, and how much each checker had to judge."""

    anomalies: list[Anomaly]
    judged: Counter[str]


def judge(
    place: Path,
    collected: Collected,
    held: Sequence[Held],
    refuted: Sequence[str],
    progress: Callable[[str], None],
) -> Judgement:
    """Everything that needs the journal. `place`: the folder of the run; the history in it is read twice."""
    exports, verifier_key = collected
    reference = next(iter(exports.values()))
    progress("judging the journals")
    found = check_exports(exports, verifier_key)
    blocks = lines_of(reference)
    next(blocks, None)
    found += checkpoints.check(held, refuted, blocks)
    judged = Counter({"exports": len(exports), "checkpoints": len(held)})
    history = place / folder.HISTORY
    found += ledger.check_order(read_history(history))
    for number, operations, journal in rounds.together(
        rounds.of_history(read_history(history)), rounds.of_journal(revisions_of(reference, TABLE))
    ):
        progress(f"judging round {number}: {len(operations):,} operations, {len(journal.blocks):,} blocks")
        found += _round(number, operations, journal, judged)
        if len(found) >= ANOMALIES_MAX:
            break
    return Judgement(found, judged)


def _round(
    number: int, history: Sequence[Operation], journal: Journal, judged: Counter[str]
) -> Iterator[Anomaly]:
    strong = [each for each in history if each.kind not in _PAST_OR_REPEATED]
    yield from ledger.check(strong, journal)
    yield from bank.check(journal, accounts_of(number), len(accounts_of(number)) * OPENING_BALANCE)
    yield from cycles.check(strong)
    yield from lists.check(_of_lists(strong))
    yield from repeats.check(history, journal)
    yield from past.check(history, journal)
    verdicts = _search(strong)
    yield from registers.anomalies(verdicts)
    kinds = Counter(each.kind for each in history if each.outcome == "ok")
    judged["blocks"] += len(journal.blocks)
    judged["operations in order"] += len(strong)
    judged["registers linearizable"] += sum(each == "linearizable" for each in verdicts.values())
    judged["registers undecided"] += sum(each == "not decided" for each in verdicts.values())
    judged["transfers"] += kinds["transfer"]
    judged["appends"] += kinds["append"]
    judged["repeated inserts"] += kinds["repeat"]
    judged["lines of loads"] += kinds["bulk"]
    judged["reads of the past"] += kinds["as of"] + kinds["history"]


def _of_lists(history: Iterable[Operation]) -> list[Operation]:
    return [each for each in history if each.kind == "append" or (each.kind == "get" and is_list(each.key))]


def _search(history: Iterable[Operation]) -> dict[tuple[str, str], registers.Verdict]:
    of_registers = [each for each in history if is_register(each.writes[0].key if each.writes else each.key)]
    return registers.search(of_registers, timeout_s=limits.SEARCH_TIMEOUT_S)


def judge_alone(place: Path) -> list[Anomaly]:
    """What needs no journal, for a run whose nodes did not come to one."""
    found: list[Anomaly] = []
    for _, operations in rounds.of_history(read_history(place / folder.HISTORY)):
        strong = [each for each in operations if each.kind not in _PAST_OR_REPEATED]
        found += registers.anomalies(_search(strong))
        found += cycles.check(strong)
        found += lists.check(_of_lists(strong))
    return found[:ANOMALIES_MAX]
