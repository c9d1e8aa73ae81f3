"""A request that is sent again under its Idempotency-Key has the first answer and no second effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal
from chaos.history import Operation

_CONTRADICTIONS = frozenset({"version-mismatch", "condition-failed", "idempotency-key-reused"})
"""What only a request that is taken for another one can be refused for: its document is nobody else's."""


def check(history: Iterable[Operation], journal: Journal) -> list[Anomaly]:
    """Of inserts and their repeats. Each inserted document has a key of its own."""
    asked: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for each in history:
        if each.kind in ("insert", "repeat"):
            asked[each.writes[0].table, each.writes[0].key].append(each)
    return [found for document, sent in asked.items() for found in _one(document, sent, journal)]


def _one(document: tuple[str, str], sent: list[Operation], journal: Journal) -> Iterator[Anomaly]:
    done = [each for each in sent if each.outcome == "ok"]
    answers = {(each.seq, each.writes[0].version) for each in done}
    if len(answers) > 1:
        what = f"{document[1]} was answered with blocks and versions {sorted(map(str, answers))}"
        yield Anomaly("a repeated request has the first answer", what, tuple(sent))
    contradicted = [each for each in sent if each.error in _CONTRADICTIONS]
    if contradicted:
        what = f"{document[1]} was inserted once, and its repeat was refused: {contradicted[0].error}"
        yield Anomaly("a repeated request has the first answer", what, tuple(sent))
    revisions = journal.documents.get(document, [])
    if len(revisions) > 1 or len(revisions) < bool(done):
        what = f"{document[1]} has {len(revisions)} revisions"
        yield Anomaly("an insert happens once", what, tuple(sent))
