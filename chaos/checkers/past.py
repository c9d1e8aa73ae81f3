"""Reads of the past show what the journal says was so then, whichever node answers, and whenever."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal, Revision
from chaos.history import Operation

ANOMALIES_MAX = 100


def check(history: Iterable[Operation], journal: Journal) -> list[Anomaly]:
    """Of the reads "as of" and the histories among `history`, those that the journal contradicts."""
    found: list[Anomaly] = []
    for each in history:
        if each.outcome == "ok" and len(found) < ANOMALIES_MAX:
            if each.kind == "as of":
                found.extend(_as_of(each, journal))
            elif each.kind == "history":
                found.extend(_history(each, journal))
    return found


def _as_of(read: Operation, journal: Journal) -> Iterator[Anomaly]:
    revisions = journal.documents.get((read.table, read.key), [])
    earliest = latest = _at_block(revisions, read.as_of_seq or 0)
    if read.as_of:
        # Blocks may come at the very time that was asked for, before the read or after it.
        latest = _at_time(revisions, read.as_of)
    shown = -1 if read.version is None else read.version
    when = f"block {read.as_of_seq}" + (f", asked for as {read.as_of}" if read.as_of else "")
    if not earliest <= shown <= latest:
        what = f"version {read.version} was shown as of {when}; the journal says {_named(latest)}"
        yield Anomaly("the past stays as it was", what, (read,))
    elif shown >= 0 and revisions[shown].data != read.data:
        what = f"version {shown} was shown with another content as of {when}"
        yield Anomaly("the past stays as it was", what, (read,))


def _named(version: int) -> str:
    return "that there was none" if version < 0 else f"version {version}"


def _at_block(revisions: Sequence[Revision], seq: int) -> int:
    """The version that was current after a block, -1 before the first one."""
    return bisect_right(revisions, seq, key=lambda each: each.seq) - 1


def _at_time(revisions: Sequence[Revision], at: str) -> int:
    return bisect_right(revisions, at, key=lambda each: each.at) - 1


def _history(read: Operation, journal: Journal) -> Iterator[Anomaly]:
    """Versions one below the other without gaps, each as the journal has it, none missing before the read."""
    versions = [each.version for each in read.shown]
    newest = versions[0] if versions else -1
    if versions != list(range(newest, newest - len(versions), -1)):
        yield Anomaly("a history has no gaps", f"versions {versions}", (read,))
        return
    for each in read.shown:
        revision = journal.revision(read.table, read.key, each.version)
        if revision is None or (revision.seq, revision.data) != (each.seq, each.data):
            yield Anomaly("a history shows what the journal holds", f"not version {each.version}", (read,))
            return
    known = _at_block(journal.documents.get((read.table, read.key), []), read.as_of_seq or 0)
    if newest < known:
        what = f"it shows {_named(newest)}, and block {read.as_of_seq} had version {known}"
        yield Anomaly("a history is as fresh as was asked", what, (read,))
