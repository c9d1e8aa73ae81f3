"""Reads of a ledger as of one block: the present and every past the same way.

A view is only a `seq`: rows are versioned by it, so nothing is held open and nothing is copied. The
first row of a document at or below the view's seq is the revision that the view shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from storage import keys, limits, rows
from storage.disk import Disk
from storage.errors import InvariantBroken, TableDropped, TableUnknown
from storage.ledger_state import (
    CATALOGUE_NUMBER,
    CATALOGUE_TABLE,
    LedgerState,
    TableState,
    catalogue_table,
)


class Revision(NamedTuple):
    """One revision of a document. `payload` is canonical JSON, empty for a delete; `at` is in
    microseconds since the epoch. `erased_by` is the block that erased `payload` and `salt`, if one did."""

    key: str
    version: int
    seq: int
    op: Literal["put", "delete"]
    tx: bytes
    at: int
    payload: bytes
    salt: bytes
    prev_seq: int | None
    leaf_index: int
    erased_by: int | None = None


class TableInfo(NamedTuple):
    """A table as a view shows it. `last_seq` is the newest block that touched it, as of now."""

    name: str
    id: str
    created_seq: int
    state: Literal["active", "dropped"]
    last_seq: int


class View:
    """A ledger as of block `seq`."""

    def __init__(self, disk: Disk, state: LedgerState, seq: int) -> None:
        self._disk = disk
        self._state = state
        self.seq = seq

    def tables(self) -> list[TableInfo]:
        """Every table that existed at the view's block, dropped ones included, by name."""
        names = [revision.key for revision in self._scan(self._state.tables[CATALOGUE_TABLE], "", "")]
        found = (self.table(name) for name in names)
        return [table for table in found if table is not None]

    def table(self, name: str) -> TableInfo | None:
        state = self._table_state(name)
        if state is None:
            return None
        now = self._state.tables.get(name)
        last_seq = now.last_seq if now is not None and now.number == state.number else state.number
        return TableInfo(name, state.id, state.number, "active" if state.active else "dropped", last_seq)

    def get(self, table: str, key: str) -> Revision | None:
        """The revision that the view shows, deletes included; None when there was none yet.

        Raises `TableUnknown`, and `TableDropped` when the view is after the drop.
        """
        return self._newest(self._active(table), key, self.seq)

    def version(self, table: str, key: str, version: int) -> Revision | None:
        """Revision number `version`, if the view has it. Works for dropped tables too."""
        for revision in self._walk(self._known(table), key):
            if revision.version <= version:
                return revision if revision.version == version else None
        return None

    def history(self, table: str, key: str, before_version: int | None, limit: int) -> list[Revision]:
        """Up to `limit` revisions, newest first, below `before_version`. Works for dropped tables too."""
        found: list[Revision] = []
        for revision in self._walk(self._known(table), key):
            if before_version is None or revision.version < before_version:
                found.append(revision)
                if len(found) >= min(limit, limits.SCAN_LIMIT_MAX):
                    break
        return found

    def successor(self, table: str, key: str, end_seq: int) -> Revision | None:
        """The revision right after the one that the view shows, in block `end_seq` at the latest.

        Works for dropped tables too. A binary search: a seek for each bit of the distance.
        """
        state = self._known(table)
        shown = self._newest(state, key, self.seq)
        version = 0 if shown is None else shown.version + 1
        newest = self._newest(state, key, end_seq)
        if newest is None or newest.version < version:
            return None
        low, high = self.seq, end_seq  # the successor came after `low`, and by `high`
        while high - low > 1:
            middle = (low + high) // 2
            found = self._newest(state, key, middle)
            if found is None or found.version < version:
                low = middle
            else:
                high = middle
        # One block may hold several revisions of the key.
        for revision in View(self._disk, self._state, high)._walk(state, key):
            if revision.version == version:
                return revision
        raise InvariantBroken(f"ledger {self._state.name!r}: version {version} of {key!r} is missing")

    def scan(self, table: str, prefix: str = "", after: str = "", limit: int = 100) -> list[Revision]:
        """Up to `limit` live documents with `prefix`, in key order, beginning after the key `after`.

        Documents whose shown revision is erased are left out, like deleted ones.
        """
        found: list[Revision] = []
        for revision in self._scan(self._active(table), prefix, after):
            found.append(revision)
            if len(found) >= min(limit, limits.SCAN_LIMIT_MAX):
                break
        return found

    def _table_state(self, name: str) -> TableState | None:
        if name == CATALOGUE_TABLE or self.seq >= self._state.size - 1:
            return self._state.tables.get(name)
        prefix = keys.revisions_of_table(self._state.number, CATALOGUE_NUMBER)
        entry = self._place(prefix + name.encode() + b"\0", self.seq)
        if entry is None:
            return None
        seq, leaf_index = entry
        return catalogue_table(self._disk, self._state.row, name, rows.Current(0, seq, leaf_index, 0, b""))

    def _known(self, name: str) -> TableState:
        table = self._table_state(name)
        if table is None:
            raise TableUnknown(name)
        return table

    def _active(self, name: str) -> TableState:
        table = self._known(name)
        if not table.active:
            raise TableDropped(name)
        return table

    def _place(self, stem: bytes, seq: int) -> tuple[int, int] | None:
        """(seq, leaf index) of the newest revision at or below `seq`, under a `… key 00` stem."""
        row = self._disk.cursor(keys.end_of(stem)).seek(stem + keys.revision_suffix(seq, (1 << 32) - 1))
        return None if row is None else keys.place_of(row[0][len(stem) :])

    def _newest(self, table: TableState, key: str, seq: int) -> Revision | None:
        stem = table.revisions_prefix + key.encode() + b"\0"
        row = self._disk.cursor(keys.end_of(stem)).seek(stem + keys.revision_suffix(seq, (1 << 32) - 1))
        return None if row is None else _revision(key, row[0][len(stem) :], row[1])

    def _walk(self, table: TableState, key: str) -> Iterator[Revision]:
        """All revisions of one document that the view has, newest first."""
        stem = table.revisions_prefix + key.encode() + b"\0"
        start = stem + keys.revision_suffix(self.seq, (1 << 32) - 1)
        for row_key, row in self._disk.scan(start, keys.end_of(stem)):
            yield _revision(key, row_key[len(stem) :], row)

    def _scan(self, table: TableState, prefix: str, after: str) -> Iterator[Revision]:
        """Live documents in key order. Jumps over older revisions instead of reading them."""
        base = table.revisions_prefix
        cursor = self._disk.cursor(keys.end_of(base + prefix.encode()))
        # "key 01" is past every revision of `key` and before any later key: keys hold no control bytes.
        start = base + max(prefix.encode(), after.encode() + b"\1" if after else b"")
        row = cursor.seek(start)
        while row is not None:
            row_key = row[0]
            stem = row_key[: -keys.REVISION_SUFFIX_SIZE_BYTES]
            shown: tuple[bytes, bytes] | None = row
            if keys.place_of(row_key[len(stem) :])[0] > self.seq:
                shown = cursor.seek(stem + keys.revision_suffix(self.seq, (1 << 32) - 1))
                if shown is not None and not shown[0].startswith(stem):
                    row = shown
                    continue
            if shown is None:
                return
            revision = _revision(stem[len(base) : -1].decode(), shown[0][len(stem) :], shown[1])
            if revision.op == "put" and revision.erased_by is None:
                yield revision
            row = cursor.seek(stem[:-1] + b"\1")


def _revision(key: str, suffix: bytes, row: bytes) -> Revision:
    seq, leaf_index = keys.place_of(suffix)
    stored = rows.decode_revision(row)
    op: Literal["put", "delete"] = "put" if stored.op == 0 else "delete"
    return Revision(
        key,
        stored.version,
        seq,
        op,
        stored.tx,
        stored.at,
        stored.payload,
        stored.salt,
        stored.prev_seq,
        leaf_index,
        stored.erased_by,
    )
