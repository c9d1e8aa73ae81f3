"""How many bytes the log takes, and from which entry on it takes less: what decides how far it is kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

_SEGMENT_SIZE_BYTES = 64 << 10


class LogSizes:
    """Sizes of the entries of a log, summed over segments of 64 KiB or one entry.

    Answers are exact to a segment; what was cut off inside one still counts until its start is dropped.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._offsets: list[int] = []
        self._end = 0

    @property
    def total(self) -> int:
        """Bytes of all entries."""
        return self._end - self._offsets[0] if self._offsets else 0

    @property
    def end(self) -> int:
        """Bytes of all entries that ever came, but for those that were truncated."""
        return self._end

    def after(self, index: int) -> int:
        """Bytes of the entries behind `index`."""
        return self.total - self.before(index + 1)

    def append(self, index: int, size_bytes: int) -> None:
        if not self._offsets or self._end - self._offsets[-1] >= _SEGMENT_SIZE_BYTES:
            self._starts.append(index)
            self._offsets.append(self._end)
        self._end += size_bytes

    def truncate_from(self, index: int) -> None:
        """Forgets `index` and everything behind it."""
        keep = bisect_left(self._starts, index)
        if keep < len(self._starts):
            self._end = self._offsets[keep]
            del self._starts[keep:], self._offsets[keep:]

    def drop_before(self, index: int) -> None:
        """Forgets everything before `index`."""
        drop = max(0, bisect_right(self._starts, index) - 1)
        del self._starts[:drop], self._offsets[:drop]

    def before(self, index: int) -> int:
        """Bytes of the entries before `index`."""
        if not self._offsets:
            return 0
        segment = max(0, bisect_right(self._starts, index) - 1)
        return self._offsets[segment] - self._offsets[0]

    def first_within(self, size_bytes: int) -> int:
        """The first entry such that it and those behind it take at most `size_bytes`; the last segment's at
        least, and 0 when there is no entry."""
        if not self._offsets:
            return 0
        segment = bisect_left(self._offsets, self._end - size_bytes)
        return self._starts[min(segment, len(self._starts) - 1)]
