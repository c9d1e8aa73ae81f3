"""The current rows of documents: each write needs one, and most are told without asking the disk.

Documents written again lately are kept, because many will be once more. Those written for the first time are
not, so that a bulk load fills nothing (and `TableState.last_key` tells of most that they are new).
"""

from __future__ import annotations

from storage import limits
from storage.disk import Disk


class CurrentRows:
    """Rows as the disk has them after the last entry.

    Of two generations the older one goes when the younger one is full, so that a row stays while
    `limits.RECENT_CURRENT_ROWS` others come.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The row, without what the entry under way has written."""
        return self._young.get(key) or self._old.get(key) or self._disk.get(key)

    def written(self, again: dict[bytes, bytes]) -> None:
        """The entry is on the disk; `again` has its rows that are not the first of their document."""
        if len(self._young) >= limits.RECENT_CURRENT_ROWS:
            self._old, self._young = self._young, {}
        self._young.update(again)
