"""The term of every log index, kept as runs: terms never fall along a log, so there are few of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class TermRuns:
    """Index to term in O(log runs), for the indexes `first` to `last`; empty while `last` < `first`."""

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self.last = first - 1
        self._starts: list[int] = []
        self._terms: list[int] = []

    @property
    def last_term(self) -> int:
        """Term of the last entry, 0 when there is none."""
        return self._terms[-1] if self._terms else 0

    def append(self, term: int) -> None:
        """Adds the entry after the last one. Raises ValueError when its term falls."""
        self.last += 1
        if not self._terms or term > self._terms[-1]:
            self._starts.append(self.last)
            self._terms.append(term)
        elif term < self._terms[-1]:
            self.last -= 1
            raise ValueError(f"term {term} after term {self._terms[-1]}")

    def truncate_from(self, index: int) -> None:
        """Forgets `index` and everything behind it."""
        keep = bisect_left(self._starts, index)
        del self._starts[keep:], self._terms[keep:]
        self.last = index - 1

    def drop_before(self, index: int) -> None:
        """Forgets everything before `index`, which must be held."""
        drop = bisect_right(self._starts, index) - 1
        del self._starts[:drop], self._terms[:drop]
        self._starts[0] = self.first = index

    def term_at(self, index: int) -> int | None:
        """Term of `index`, None outside the log."""
        if not self.first <= index <= self.last:
            return None
        return self._terms[bisect_right(self._starts, index) - 1]

    def run_start(self, index: int) -> int:
        """First index held that has the same term as `index`, which must be held."""
        return self._starts[bisect_right(self._starts, index) - 1]

    def last_index_of(self, term: int) -> int | None:
        """Last index of `term`, None when no entry has it."""
        run = bisect_left(self._terms, term)
        if run == len(self._terms) or self._terms[run] != term:
            return None
        return self._starts[run + 1] - 1 if run + 1 < len(self._starts) else self.last
