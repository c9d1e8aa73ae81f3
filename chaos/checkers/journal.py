"""A ledger's journal as checkers use it: every revision, by its place and by its document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Revision(NamedTuple):
    """One revision of the journal; `data` is None for a delete."""

    seq: int
    table: str
    key: str
    version: int
    data: dict[str, object] | None
    at: str = ""
    """The time of its block (RFC 3339, UTC, microseconds): comparable as text."""


class Journal:
    """The revisions of one ledger, in the journal's order."""

    def __init__(self, revisions: Iterable[Revision]) -> None:
        self.blocks: dict[int, list[Revision]] = {}
        self.documents: dict[tuple[str, str], list[Revision]] = {}
        for revision in revisions:
            self.blocks.setdefault(revision.seq, []).append(revision)
            self.documents.setdefault((revision.table, revision.key), []).append(revision)

    def revision(self, table: str, key: str, version: int) -> Revision | None:
        """A document's revision; versions count from 0 without gaps."""
        revisions = self.documents.get((table, key), [])
        return revisions[version] if 0 <= version < len(revisions) else None
