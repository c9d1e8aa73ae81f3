"""The Raft log on disk: entries, current term and vote, and which server this disk makes of its node.

What is staged or only written is lost in a crash until it is synced; the core sends nothing that depends
on it before (Raft thesis section 3.8: term, vote and log are on stable storage before a message is answered).
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus import limits, log_rows, membership, membership_history, record
from consensus.errors import InvariantBroken, LogCorrupt
from consensus.identity import IDENTITY_KEY, Identity
from consensus.log_rows import entry_key
from consensus.log_sizes import LogSizes
from consensus.log_store import LogStore
from consensus.membership import MembershipInvalid
from consensus.membership_history import MembershipEntry, MembershipHistory
from consensus.record import Kind
from consensus.term_runs import TermRuns


class DurableLog:
    """Entries first_index..last_index, a bounded end of them in memory.

    Opening it checks every record; raises LogCorrupt. `memberships` are those that its entries bring.
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self.memberships = MembershipHistory()
        self.identity = Identity()
        self._terms = TermRuns()
        self._sizes = LogSizes()
        self._cache: dict[int, bytes] = {}
        self._cache_first = 1
        self._cache_size_bytes = 0
        self._synced_index = 0
        self._truncated_from: int | None = None
        self._deleted_from: int | None = None
        self._hard_state: tuple[int, str | None] = (0, None)
        self._hard_state_staged = False
        self._unsettled = False
        self._written_index = 0
        self.written_size_bytes = 0
        self._load()

    @property
    def first_index(self) -> int:
        return self._terms.first

    @property
    def last_index(self) -> int:
        """Index of the last entry, staged ones included; first_index - 1 when there is none."""
        return self._terms.last

    @property
    def last_term(self) -> int:
        return self._terms.last_term

    @property
    def synced_index(self) -> int:
        """The last entry that is on disk."""
        return self._synced_index

    @property
    def cached_from(self) -> int:
        """Entries from here on are in memory; older ones are read from disk."""
        return self._cache_first

    @property
    def sizes(self) -> LogSizes:
        """For reading only."""
        return self._sizes

    @property
    def entries_staged(self) -> bool:
        return self._synced_index < self.last_index

    @property
    def hard_state_staged(self) -> bool:
        return self._hard_state_staged

    @property
    def _bounds_staged(self) -> bool:
        return self.entries_staged or self._truncated_from is not None or self._deleted_from is not None

    @property
    def staged(self) -> bool:
        """Whether there is anything to write."""
        return self._bounds_staged or self._hard_state_staged or self.identity.staged

    @property
    def current_term(self) -> int:
        return self._hard_state[0]

    @property
    def voted_for(self) -> str | None:
        return self._hard_state[1]

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`, None outside the log."""
        return self._terms.term_at(index)

    def first_index_of_term_at(self, index: int) -> int:
        """The first index held that has the term of `index`, which must be held."""
        return self._terms.run_start(index)

    def last_index_of_term(self, term: int) -> int | None:
        return self._terms.last_index_of(term)

    def records(
        self, first: int, *, count_max: int, size_bytes_max: int, last: int | None = None
    ) -> list[bytes]:
        """Records from `first` on, up to `last`: at most `count_max`, and as many as fit, but at least one.

        Raises LogCorrupt when one that is read from disk is not what was written.
        """
        if first < self.first_index:
            raise InvariantBroken(f"entry {first} was asked of {self._span()}")
        end = min(first + count_max, (self.last_index if last is None else last) + 1)
        found: list[bytes] = []
        size_bytes = 0
        for each in self._read(first, end):
            size_bytes += len(each)
            if found and size_bytes > size_bytes_max:
                break
            found.append(each)
        return found

    def _read(self, first: int, end: int) -> Iterator[bytes]:
        if first < self._cache_first:
            on_disk_end = min(end, self._cache_first, first + limits.LOG_SCAN_ENTRIES_MAX)
            yield from self._read_disk(first, on_disk_end)
            if on_disk_end < self._cache_first:
                return
            first = on_disk_end
        cache = self._cache
        for index in range(first, end):
            yield cache[index]

    def _read_disk(self, first: int, end: int) -> Iterator[bytes]:
        expected = first
        for key, each in self._store.scan(entry_key(first), entry_key(end)):
            log_rows.check_entry(key, each, expected, self._terms.term_at(expected))
            yield each
            expected += 1
        if expected < end:
            raise LogCorrupt(f"entry {expected} is missing", expected)

    def append(self, index: int, term: int, record_bytes: bytes) -> None:
        """Stages a checked record behind the last entry."""
        if index != self.last_index + 1:
            raise InvariantBroken(f"entry {index} appended to a log that ends at {self.last_index}")
        self._terms.append(term)
        self._sizes.append(index, len(record_bytes))
        if record.kind_of(record_bytes) is Kind.MEMBERSHIP:
            try:
                found = membership.decode(record.payload_of(record_bytes))
            except MembershipInvalid as error:
                raise LogCorrupt(f"entry {index} is {error}", index) from error
            self.memberships.append(MembershipEntry(index, found))
        self._cache[index] = record_bytes
        self._cache_size_bytes += len(record_bytes)

    def append_new(self, term: int, kind: Kind, payload: bytes) -> int:
        """Stages an entry of this node's own making; returns its index."""
        index = self.last_index + 1
        self.append(index, term, record.encode(index, term, kind, payload))
        return index

    def truncate_from(self, index: int) -> None:
        """Stages the deletion of `index` and everything behind it."""
        if not self.first_index < index <= self.last_index:
            raise InvariantBroken(f"cannot truncate {self._span()} from {index}")
        for each in range(max(index, self._cache_first), self.last_index + 1):
            self._cache_size_bytes -= len(self._cache.pop(each))
        self._cache_first = min(self._cache_first, index)
        self._terms.truncate_from(index)
        self._sizes.truncate_from(index)
        self.memberships.truncate_from(index)
        if index <= self._synced_index:
            self._truncated_from = index
            self._synced_index = index - 1

    def delete_before(self, index: int) -> None:
        """Stages the deletion of everything before `index`, which must be on disk."""
        if not self.first_index < index <= self._synced_index:
            raise InvariantBroken(f"cannot delete before {index} from {self._span()}")
        if self._deleted_from is None:
            self._deleted_from = self.first_index
        for each in range(self._cache_first, index):
            self._cache_size_bytes -= len(self._cache.pop(each))
        self._cache_first = max(self._cache_first, index)
        self._terms.drop_before(index)
        self._sizes.drop_before(index)
        self.memberships.drop_before(index)

    def _span(self) -> str:
        return f"a log of {self.first_index}..{self.last_index}"

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        """Stages the current term and whom this node voted for in it."""
        if (term, voted_for) != self._hard_state:
            self._hard_state = (term, voted_for)
            self._hard_state_staged = True

    def write(self) -> bool:
        """Hands everything staged to the store in one batch; False when there was nothing.

        It is on disk, and counts as such, after `sync_written` only. Nothing else may be written before: a
        log has one batch on its way. What is staged meanwhile waits for the next.
        """
        if self._unsettled:
            raise InvariantBroken("the log failed before, or its last batch is not on disk yet")
        if not self.staged:
            return False
        puts: list[tuple[bytes, bytes]] = []
        if self._bounds_staged:
            term_at = self._terms.term_at
            for index in range(self._synced_index + 1, self.last_index + 1):
                puts.append((entry_key(index, term_at(index) or 0), self._cache[index]))
            puts.append(log_rows.bounds_row(self.first_index, self.last_index, self.last_term))
            base = self.memberships.at(self.first_index) if self._deleted_from is not None else None
            if base is not None:
                puts.append(log_rows.membership_row(base))
        if self._hard_state_staged:
            puts.append(log_rows.hard_state_row(*self._hard_state))
        if self.identity.staged:
            puts.append((IDENTITY_KEY, log_rows.sealed(self.identity.body())))
        self._unsettled = True
        self._store.write(puts, self._staged_deletions())
        self._written_index = self.last_index
        self.written_size_bytes = sum(len(row) for _, row in puts)
        self._truncated_from = self._deleted_from = None
        self._hard_state_staged = self.identity.staged = False
        return True

    def sync_written(self) -> bool:
        """Returns once what was written is on disk; False when there was nothing, or the driver had the store
        synced and told so (`synced`).

        Whatever the store raises is final: after a failed sync nobody knows what is on disk, and a second
        try may report success for pages the kernel has already dropped. So every later call raises.
        """
        if not self.written_size_bytes:
            return False
        self._store.sync()
        self.synced()
        return True

    def synced(self) -> None:
        """What was written is on disk: the store was synced after it."""
        self._synced_index = self._written_index
        self.written_size_bytes = 0
        self._unsettled = False
        self._evict()

    def sync(self) -> bool:
        """Puts everything staged on disk; False when there was nothing."""
        self.write()
        return self.sync_written()

    def _staged_deletions(self) -> list[tuple[bytes, bytes]]:
        ranges: list[tuple[bytes, bytes]] = []
        if self._truncated_from is not None:
            ranges.append((entry_key(self._truncated_from), log_rows.ENTRIES_END))
        if self._deleted_from is not None:
            ranges.append((entry_key(self._deleted_from), entry_key(self.first_index)))
        return ranges

    def _evict(self) -> None:
        """Drops the oldest cached records over the bounds; only what is on disk."""
        while self._cache_first <= self._synced_index and (
            len(self._cache) > limits.LOG_CACHE_ENTRIES_MAX
            or self._cache_size_bytes > limits.LOG_CACHE_SIZE_BYTES_MAX
        ):
            self._cache_size_bytes -= len(self._cache.pop(self._cache_first))
            self._cache_first += 1

    def _load(self) -> None:
        bounds = self._store.get(log_rows.BOUNDS_KEY)
        hard_state = self._store.get(log_rows.HARD_STATE_KEY)
        rows = self._store.scan(log_rows.ENTRIES, log_rows.ENTRIES_END)
        others = [self._store.get(key) for key in (log_rows.MEMBERSHIP_KEY, IDENTITY_KEY)]
        if bounds is None:
            stray = next(rows, None)
            if stray is not None or any(each is not None for each in (hard_state, *others)):
                raise LogCorrupt("the log's bounds are missing, but not the rest of it")
            return
        first, last, last_term = log_rows.decode_bounds(bounds)
        self._load_identity(first, *others)
        self._load_entries(rows, first, last, last_term)
        if hard_state is not None:
            self._load_hard_state(hard_state)
        if self.current_term < self.last_term:
            raise LogCorrupt(f"the log's last term {self.last_term} is above its current term")

    def _load_identity(self, first: int, base_row: bytes | None, identity_row: bytes | None) -> None:
        """The membership as of the log's beginning, and whose log it is."""
        if base_row is not None:
            try:
                base = membership_history.decode(log_rows.unsealed(base_row, "membership"))
            except MembershipInvalid as error:
                raise LogCorrupt(f"as of its beginning, the log has {error}") from error
            if base.index > first:
                raise LogCorrupt(f"the membership as of entry {first} is that of entry {base.index}")
            self.memberships.append(base)
        if identity_row is not None:
            self.identity.load(log_rows.unsealed(identity_row, "incarnation"))

    def _load_entries(
        self, rows: Iterator[tuple[bytes, bytes]], first: int, last: int, last_term: int
    ) -> None:
        self._terms = TermRuns(first)
        self._cache_first = first
        for key, row in rows:
            index = self.last_index + 1
            if index > last:
                raise LogCorrupt(f"entry {index} lies behind the last one, {last}", index)
            try:
                self.append(index, log_rows.check_entry(key, row, index, None), row)
            except ValueError as error:
                raise LogCorrupt(f"entry {index}: {error}", index) from error
            self._synced_index = index
            self._evict()
        if self.last_index < last:
            raise LogCorrupt(f"entry {self.last_index + 1} is missing", self.last_index + 1)
        if self.last_term != last_term:
            raise LogCorrupt(f"the last entry {last} is of term {self.last_term}, expected {last_term}", last)

    def _load_hard_state(self, row: bytes) -> None:
        self._hard_state = log_rows.decode_hard_state(row)
