"""The current rows of documents: each write needs one, and most are told without asking the disk.

Documents written again lately are kept, because many will be once more. Those written for the first time are
not, so that a bulk load fills nothing (and `TableState.last_key` tells of most that they are new). A load
whose keys ascend, where others are, finds its rows or that there are none by walking: a tenth of the time.
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
        self._cursor: Cursor | None = None
        self._at: tuple[bytes, bytes] | None = None
        self._last = b""
        self._ascending = 0
        self._walked = 0
        self._ascending_min = limits.CURRENT_ROWS_ASCENDING_MIN

    def get(self, key: bytes) -> bytes | None:
        """The row, without what the entry under way has written."""
        row = self._young.get(key) or self._old.get(key)
        return self._stored(key) if row is None else row

    def _stored(self, key: bytes) -> bytes | None:
        ascends = key > self._last
        self._last = key
        if self._cursor is not None:
            at = self._at
            if at is not None and at[0] < key:
                at = self._at = self._cursor.next()
            if ascends and (at is None or at[0] >= key):
                self._walked += 1
                return at[1] if at is not None and at[0] == key else None
            self._stop_walking()
        self._ascending = self._ascending + 1 if ascends else 0
        return self._disk.get(key) if self._ascending < self._ascending_min else self._begin_to_walk(key)

    def _begin_to_walk(self, key: bytes) -> bytes | None:
        self._cursor = self._disk.cursor(keys.BEHIND_ALL)
        self._at = self._cursor.seek(key)
        return self._at[1] if self._at is not None and self._at[0] == key else None

    def _stop_walking(self) -> None:
        """The next key is not the next one here. If that came soon, it takes more to set out again."""
        soon = self._walked < limits.CURRENT_ROWS_ASCENDING_MIN
        self._ascending_min = 2 * self._ascending_min if soon else limits.CURRENT_ROWS_ASCENDING_MIN
        self._cursor, self._ascending, self._walked = None, 0, 0

    def written(self, again: dict[bytes, bytes]) -> None:
        """The entry is on the disk; `again` has its rows that are not the first of their document."""
        self._begin()
        if len(self._young) >= limits.RECENT_CURRENT_ROWS:
            self._old, self._young = self._young, {}
        self._young.update(again)
