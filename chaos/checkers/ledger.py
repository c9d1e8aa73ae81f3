"""The ledger checker: strict serializability without a search.

Every reply carries the block it was written in or shows, so the order of all writes is known and only has
to be compared: with the journal (nothing lost, nothing twice, nothing refused that is there after all) and
with real time (a write that ended before another began has the lower block; a read shows nothing older than
what had ended before it began, and nothing that began after it ended). One pass over the history, sorted.

After Kyle Kingsbury's and Peter Alvaro's "Elle" (VLDB 2021), where recoverability comes from list appends;
here it comes from the ledger's own block numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal, Revision
from chaos.history import Operation, Write

_IN_ORDER = "a write comes after those that ended before it began"

ANOMALIES_MAX = 100
"""One broken promise tends to show in thousands of operations; the first ones tell the story."""


def check(history: Sequence[Operation], journal: Journal) -> list[Anomaly]:
    """Anomalies of one ledger's history, at most ANOMALIES_MAX. Every written document must be unique."""
    found: list[Anomaly] = []
    for checker in (_writes, _order_of_writes, _reads, _structure):
        for anomaly in checker(history, journal):
            found.append(anomaly)
            if len(found) >= ANOMALIES_MAX:
                return found
    return found


def check_order(history: Iterable[Operation]) -> list[Anomaly]:
    """The order of all writes in real time, over a history of any length: 24 bytes a write.

    At most one anomaly, without its operations: `check` shows them when they are of one round.
    """
    times = array("q"), array("q"), array("q")
    for each in history:
        if each.writes and each.outcome == "ok" and each.seq is not None and each.kind != "repeat":
            for column, value in zip(times, (each.invoked_ns, each.completed_ns, each.seq), strict=True):
                column.append(value)
    invoked_ns, completed_ns, seqs = times
    by_end = sorted(range(len(seqs)), key=completed_ns.__getitem__)
    newest = ended = 0
    for number in sorted(range(len(seqs)), key=invoked_ns.__getitem__):
        while ended < len(by_end) and completed_ns[by_end[ended]] < invoked_ns[number]:
            newest = max(newest, seqs[by_end[ended]])
            ended += 1
        if seqs[number] <= newest:
            what = f"block {seqs[number]} was written after block {newest}"
            return [Anomaly(_IN_ORDER, what)]
    return []


def _writes(history: Sequence[Operation], journal: Journal) -> Iterator[Anomaly]:
    """Acknowledged: there, once, where the answer said. Refused: not there. Unknown: whole, once, or not."""
    places = _places(journal)
    expected: Counter[int] = Counter()
    for operation in history:
        if not operation.writes:
            continue
        at = [places.get(_identity(write), []) for write in operation.writes if write.data is not None]
        if operation.outcome == "refused":
            if any(at):
                yield Anomaly("a refused write has no effect", f"it is in block {at[0]}", (operation,))
        elif operation.outcome == "ok":
            if operation.seq is not None:
                yield from _acknowledged(operation, journal)
            elif not all(at):  # Done by an earlier attempt, so that the answer does not say where.
                yield Anomaly("an acknowledged write is never lost", "it is in no block", (operation,))
            if any(len(found) > 1 for found in at):
                yield Anomaly("a write happens once", f"it is in blocks {at}", (operation,))
        else:
            blocks = {tuple(found) for found in at}
            if len(blocks) > 1 or any(len(found) > 1 for found in at):
                yield Anomaly("an unknown write is whole or absent", f"its parts are in {at}", (operation,))
        expected.update(seq for found in at for seq in found)
    yield from _unasked(journal, expected)


def _places(journal: Journal) -> dict[tuple[str, str, str], list[int]]:
    """In which blocks each written document stands."""
    places: dict[tuple[str, str, str], list[int]] = {}
    for revisions in journal.blocks.values():
        for revision in revisions:
            if revision.data is not None:
                places.setdefault(_identity_of(revision), []).append(revision.seq)
    return places


def _identity(write: Write) -> tuple[str, str, str]:
    return write.table, write.key, repr(sorted((write.data or {}).items()))


def _identity_of(revision: Revision) -> tuple[str, str, str]:
    return revision.table, revision.key, repr(sorted((revision.data or {}).items()))


def _acknowledged(operation: Operation, journal: Journal) -> Iterator[Anomaly]:
    block = journal.blocks.get(operation.seq or 0, [])
    for write in operation.writes:
        asked = (write.table, write.key, write.data)
        same = [each for each in block if (each.table, each.key, each.data) == asked]
        if not same:
            what = f"{write.table}/{write.key} is not in block {operation.seq}"
            yield Anomaly("an acknowledged write is never lost", what, (operation,))
        elif write.version is not None and all(each.version != write.version for each in same):
            what = f"{write.table}/{write.key} is version {same[0].version}, not {write.version}"
            yield Anomaly("an answer tells the truth", what, (operation,))


def _unasked(journal: Journal, expected: Counter[int]) -> Iterator[Anomaly]:
    for seq, revisions in journal.blocks.items():
        asked = sum(revision.data is not None for revision in revisions)
        if asked > expected[seq]:
            yield Anomaly("every revision was asked for", f"block {seq} holds one that nobody asked for")


def _order_of_writes(history: Iterable[Operation], journal: Journal) -> Iterator[Anomaly]:
    """Real time: what ended before another began comes before it."""
    done = [each for each in history if each.writes and each.outcome == "ok" and each.seq is not None]
    yield from _real_time(done, _IN_ORDER)


def _real_time(done: Sequence[Operation], promise: str) -> Iterator[Anomaly]:
    by_end = sorted(done, key=lambda each: each.completed_ns)
    newest: Operation | None = None
    ended = 0
    for operation in sorted(done, key=lambda each: each.invoked_ns):
        while ended < len(by_end) and by_end[ended].completed_ns < operation.invoked_ns:
            if newest is None or (by_end[ended].seq or 0) > (newest.seq or 0):
                newest = by_end[ended]
            ended += 1
        # Writes that share a group may share nothing else: equal blocks would be one transaction twice.
        if newest is not None and (operation.seq or 0) <= (newest.seq or 0):
            yield Anomaly(
                promise, f"block {operation.seq} was written after block {newest.seq}", (newest, operation)
            )


def _reads(history: Sequence[Operation], journal: Journal) -> Iterator[Anomaly]:
    """A strong read shows what the journal says, neither stale nor from the future."""
    began = {each.seq: each for each in history if each.writes and each.outcome == "ok"}
    by_document: dict[tuple[str, str], list[Operation]] = {}
    for operation in history:
        if operation.kind == "get" and operation.outcome == "ok":
            by_document.setdefault((operation.table, operation.key), []).append(operation)
            yield from _shown(operation, journal, began)
    seen: dict[tuple[str, str], list[tuple[int, int, Operation]]] = {}
    for operation in history:
        for document, seq in _touched(operation, journal):
            seen.setdefault(document, []).append((operation.completed_ns, seq, operation))
    for document, reads in by_document.items():
        yield from _fresh(reads, sorted(seen.get(document, []), key=lambda each: each[0]), journal)


def _touched(operation: Operation, journal: Journal) -> Iterator[tuple[tuple[str, str], int]]:
    """The documents whose state an operation that is done has fixed, and as of which block."""
    if operation.outcome != "ok":
        return
    if operation.kind == "get":
        yield (operation.table, operation.key), _as_of(operation, journal)
    elif operation.seq is not None:
        for write in operation.writes:
            yield (write.table, write.key), operation.seq


def _as_of(read: Operation, journal: Journal) -> int:
    """The block whose revision a read showed, -1 when it said that the document never existed."""
    if read.version is None:
        return -1
    revision = journal.revision(read.table, read.key, read.version)
    return -1 if revision is None else revision.seq


def _shown(read: Operation, journal: Journal, began: dict[int | None, Operation]) -> Iterator[Anomaly]:
    if read.version is None:
        return
    revision = journal.revision(read.table, read.key, read.version)
    if revision is None or revision.data != read.data or read.seq not in (None, revision.seq):
        yield Anomaly("a read shows what the journal holds", f"not version {read.version}", (read,))
        return
    write = began.get(revision.seq)
    if write is not None and write.invoked_ns > read.completed_ns:
        yield Anomaly("a read shows nothing from the future", f"block {revision.seq}", (read, write))


def _fresh(
    reads: Sequence[Operation], fixed: Sequence[tuple[int, int, Operation]], journal: Journal
) -> Iterator[Anomaly]:
    """No read of a document shows an older state than one that was fixed before the read began."""
    newest, ended = -1, 0
    by: Operation | None = None
    for read in sorted(reads, key=lambda each: each.invoked_ns):
        while ended < len(fixed) and fixed[ended][0] < read.invoked_ns:
            if fixed[ended][1] > newest:
                newest, by = fixed[ended][1], fixed[ended][2]
            ended += 1
        if by is not None and _as_of(read, journal) < newest:
            what = f"block {newest} had been written or shown before it began"
            yield Anomaly("a strong read is never stale", what, (by, read))


def _structure(history: Sequence[Operation], journal: Journal) -> Iterator[Anomaly]:
    """Versions of a document count from 0 without gaps, in the order of their blocks."""
    for (table, key), revisions in journal.documents.items():
        for number, revision in enumerate(revisions):
            if revision.version != number:
                what = f"{table}/{key}: version {revision.version} stands where {number} should"
                yield Anomaly("versions count without gaps", what)
