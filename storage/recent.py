"""Current rows of documents that were written again lately, in memory: many will be once more.

Documents written for the first time are left out, so that a bulk load fills nothing that is not asked for.
"""

from __future__ import annotations

from storage import limits


class RecentRows:
    """Rows by their keys, as the disk has them. Of two generations the older one goes when the younger one is
    full, so that a row stays while `limits.RECENT_CURRENT_ROWS` others come."""

    def __init__(self) -> None:
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        row = self._young.get(key)
        return self._old.get(key) if row is None else row

    def keep(self, written: dict[bytes, bytes]) -> None:
        """Takes the rows of an entry that was written."""
        if len(self._young) >= limits.RECENT_CURRENT_ROWS:
            self._old, self._young = self._young, {}
        self._young.update(written)
