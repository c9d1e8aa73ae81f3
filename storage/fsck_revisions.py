"""fsck, second pass: every document's revisions in order, and the current row that must name the last."""

from __future__ import annotations

import hashlib

from storage import keys, rows
from storage.engine import Engine
from storage.errors import InvariantBroken
from storage.findings import FsckReport, Progress
from storage.fsck_journal import CheckedJournal
from storage.ledger_state import stored_block

PROGRESS_EVERY_ROWS = 4_096


class _Documents:
    """Takes revision rows in key order (newest first in each document) and checks each document."""

    def __init__(self, engine: Engine, report: FsckReport, name: str, number: int) -> None:
        self.engine = engine
        self.report = report
        self.name = name
        self.number = number
        self.documents = 0
        self._stem = b""
        self._awaited: tuple[int, int | None] | None = None

    def where(self, stem: bytes) -> str:
        table = int.from_bytes(stem[5:13], "big")
        return f"ledger {self.name!r} table {table} document {stem[13:-1].decode(errors='replace')!r}"

    def check(self, key: bytes, value: bytes) -> None:
        stem, suffix = key[: -keys.REVISION_SUFFIX_SIZE_BYTES], key[-keys.REVISION_SUFFIX_SIZE_BYTES :]
        seq, leaf_index = keys.place_of(suffix)
        try:
            revision = rows.decode_revision(value)
        except ValueError as error:
            self.report.add(self.where(stem), f"the revision of block {seq} is unreadable: {error}")
            return
        if stem != self._stem:
            self.finish()
            self._stem = stem
            self.documents += 1
            self._check_current(stem, seq, leaf_index, revision)
        elif self._awaited != (revision.version, seq):
            self.report.add(
                self.where(stem),
                f"version {revision.version} of block {seq} follows, where (version, block) {self._awaited}"
                " was awaited",
            )
        self._awaited = None if revision.prev_seq is None else (revision.version - 1, revision.prev_seq)
        if revision.prev_seq is None and revision.version != 0:
            self.report.add(self.where(stem), f"version {revision.version} names no previous block")

    def finish(self) -> None:
        """At the end of a document: its first revision must have been reached."""
        if self._awaited is not None:
            self.report.add(self.where(self._stem), f"(version, block) {self._awaited} is missing")
        self._awaited = None

    def _check_current(self, stem: bytes, seq: int, leaf_index: int, newest: rows.RevisionRow) -> None:
        current_key = b"C" + stem[1:-1]
        where = f"{self.where(stem)} current row"
        try:
            leaf = stored_block(self.engine, self.number, seq).leaves[leaf_index]
        except (InvariantBroken, IndexError):
            self.report.add(
                self.where(stem), f"its newest revision is in block {seq}, which has no such leaf"
            )
            return
        hashed = hashlib.sha256(b"\0" + leaf).digest()
        expected = rows.encode_current(newest.version, seq, leaf_index, newest.op, hashed)
        self.report.compare(where, self.engine.get(current_key), expected)


def check_revisions(
    engine: Engine, report: FsckReport, progress: Progress, name: str, number: int, journal: CheckedJournal
) -> None:
    """Walks all revisions and all current rows of a ledger."""
    documents = _Documents(engine, report, name, number)
    count = 0
    prefix = keys.of_ledger(b"D", number)
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        documents.check(key, value)
        count += 1
        if count % PROGRESS_EVERY_ROWS == 0:
            progress(f"{name}: revisions", count, journal.revisions)
    documents.finish()
    progress(f"{name}: revisions", count, max(count, journal.revisions))
    if count != journal.revisions:
        report.add(
            f"ledger {name!r} revisions", f"{count} rows are stored, but the journal has {journal.revisions}"
        )
    current = keys.of_ledger(b"C", number)
    current_count = sum(1 for _ in engine.scan(current, keys.end_of(current)))
    if current_count != documents.documents:
        report.add(
            f"ledger {name!r} current rows",
            f"{current_count} are stored, but there are {documents.documents} documents",
        )
