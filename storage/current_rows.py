"""The current rows of documents: each write needs one, and most are told without asking the disk.

Documents written again lately are kept, because many will be once more. Those written for the first time are
not, so that a bulk load fills nothing (and `TableState.last_key` tells of most that they are new). A load
that writes many documents again in the order of their keys finds them by walking: a tenth of the time.
"""

from __future__ import annotations

from storage import keys, limits
from storage.disk import Cursor, Disk


class CurrentRows:
    """Rows as the disk has them after the last entry.

    Of two generations the older one goes when the younger one is full, so that a row stays while
    `limits.RECENT_CURRENT_ROWS` others come.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._begin()

    def _begin(self) -> None:
        """A cursor sees the rows as they were when it was made, so none is older than the entry."""
        self._walk: Cursor | None = None
        self._found = b""
        self._ascending = 0
        self._ascending_min = limits.CURRENT_ROWS_ASCENDING_MIN

    def get(self, key: bytes) -> bytes | None:
        """The row, without what the entry under way has written."""
        row = self._young.get(key) or self._old.get(key)
        return self._stored(key) if row is None else row

    def _stored(self, key: bytes) -> bytes | None:
        if self._walk is not None:
            found = self._walk.next()
            if found is not None and found[0] == key:
                return found[1]
            # No neighbours: setting out was for nothing, so it takes more to do so again.
            self._walk = None
            self._ascending_min *= 2
        row = self._disk.get(key)
        self._ascending = self._ascending + 1 if row is not None and key > self._found else 0
        self._found = key
        if self._ascending >= self._ascending_min:
            self._ascending = 0
            self._walk = self._disk.cursor(keys.BEHIND_ALL)
            self._walk.seek(key)
        return row

    def written(self, again: dict[bytes, bytes]) -> None:
        """The entry is on the disk; `again` has its rows that are not the first of their document."""
        self._begin()
        if len(self._young) >= limits.RECENT_CURRENT_ROWS:
            self._old, self._young = self._young, {}
        self._young.update(again)
