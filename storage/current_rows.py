"""The current rows of documents: each write needs one, and most are told without asking the disk.

Documents written again lately are kept, because many will be once more. Those written for the first time are
not, so that a bulk load fills nothing; instead the last key of each table is known, and behind it there is
nothing to look for: keys that ascend, as those that a node makes up, are all new.
"""

from __future__ import annotations

from storage import keys, limits
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
        self._last_keys: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The row, without what the entry under way has written."""
        row = self._young.get(key) or self._old.get(key)
        if row is not None:
            return row
        table = key[: keys.TABLE_PREFIX_SIZE_BYTES]
        last = self._last_keys.get(table)
        if last is None:
            found = self._disk.last(table, keys.end_of(table))
            last = self._last_keys[table] = table if found is None else found[0]
        return None if key > last else self._disk.get(key)

    def add(self, key: bytes) -> None:
        """The entry under way writes a row whose key was asked for and not found."""
        table = key[: keys.TABLE_PREFIX_SIZE_BYTES]
        if key > self._last_keys[table]:
            self._last_keys[table] = key

    def written(self, again: dict[bytes, bytes]) -> None:
        """The entry is on the disk; `again` has its rows that are not the first of their document."""
        if len(self._young) >= limits.RECENT_CURRENT_ROWS:
            self._old, self._young = self._young, {}
        self._young.update(again)
        # Never within an entry: the disk does not have its keys.
        if len(self._last_keys) > limits.LAST_KEYS_KEPT_MAX:
            self._last_keys.clear()
