"""The buckets of a state map as of its newest seal: on the disk, or newer ones in memory, written back later.

A seal changes some thousand buckets, and the next seals change most of those again. So a seal writes none: it
leaves them dirty in memory, and the oldest are written back when they are too many or too old. While there is
room those stay, clean, as the next seals would have to read them. What is lost with the memory is done again
from the journal at the next start, of which the store says from which block on (docs/adr/0018).

What the disk has of a ledger always has a place for each of its rows: a bucket of it is as of some seal, and
if that has split since, what its rows have come to be in is written with it, in one batch.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import (
    BITS_PER_LEVEL,
    BUCKET_HEAD_SIZE_BYTES,
    BUCKET_PREFIX,
    BUCKET_SIZE_BYTES_MAX,
    EMPTY,
    ROW_SIZE_BYTES,
    node_hash,
)
from storage import keys, limits
from storage.disk import Batch, Disk, Rows
from storage.errors import InvariantBroken
from storage.rows import U64
from storage.state_tree import LEVEL_MAX, NUMBERS_END, StateTree, end_of, first_of


class _Seal(NamedTuple):
    """Nodes where the disk has what the blocks below `size` made, and is outdated since this seal. `age` is
    `WriteBack.age` before it."""

    size: int
    age: int
    nodes: list[int]


class _Outdated(NamedTuple):
    """The hash of what the disk has as a bucket instead of the dirty one, and since which seal."""

    hash: bytes
    since: _Seal


class WriteBack:
    """Which dirty buckets of all maps of a store are the oldest, and when there are enough of them.

    The bounds: STATE_BUCKETS_KEPT_MAX in memory, and STATE_REDO_MAX rows and blocks to do again at a start.
    They are kept by writing a share of what is too much after each entry, so that none waits for all of it;
    so both are exceeded by a few entries' worth after a large seal.
    """

    def __init__(self) -> None:
        self.count = 0
        """Buckets in memory."""
        self.age = 0
        """Rows and blocks that were sealed since the store was opened."""
        self._oldest: deque[StateBuckets] = deque()
        # Those that may have clean buckets.
        self._with_clean: dict[StateBuckets, None] = {}

    def sealed(self, buckets: StateBuckets) -> None:
        """These have some that were not dirty before."""
        self._oldest.append(buckets)

    def forget(self, buckets: StateBuckets) -> None:
        self._oldest = deque(each for each in self._oldest if each is not buckets)
        self._with_clean.pop(buckets, None)

    def write(self, disk: Disk) -> None:
        """Between entries: writes back some of what is too much, if anything is."""
        self._let_go(self.count - limits.STATE_BUCKETS_KEPT_MAX)
        too_much = self._too_much()
        if too_much > 0:
            self._write(disk, limits.STATE_WRITE_BACK_MIN + too_much // limits.STATE_WRITE_BACK_SHARE)
            self._let_go(self.count - limits.STATE_BUCKETS_KEPT_MAX)

    def write_all(self, disk: Disk) -> None:
        """Between entries: nothing is left in memory, or to be done again at the next start."""
        while self._oldest:
            self._write(disk, limits.STATE_WRITE_BACK_BATCH)
        self._let_go(self.count)

    def _too_much(self) -> int:
        if not self._oldest:
            return 0
        age = self.age - self._oldest[0].oldest_age
        return max(self.count - limits.STATE_BUCKETS_KEPT_MAX, age - limits.STATE_REDO_MAX)

    def _write(self, disk: Disk, wanted: int) -> None:
        batch = disk.batch()
        while wanted > 0 and self._oldest:
            buckets = self._oldest[0]
            wanted -= buckets.write_oldest(batch)
            self._with_clean[buckets] = None
            if buckets.oldest_is_written(batch):
                self._oldest.popleft()
        disk.write(batch)

    def _let_go(self, wanted: int) -> None:
        """Forgets so many clean buckets, if there are."""
        while wanted > 0 and self._with_clean:
            buckets, _ = self._with_clean.popitem()
            gone = buckets.let_go(wanted)
            self.count -= gone
            wanted -= gone
            if wanted <= 0:
                self._with_clean[buckets] = None


class StateBuckets:
    """The buckets of the map of the ledger with this number, by their nodes; `tree` says which there are."""

    def __init__(self, disk: Rows, number: int, tree: StateTree, write_back: WriteBack) -> None:
        self.kept: dict[int, bytes] = {}
        """Buckets as of the newest seal, heads of empty ones too: those that the disk has not, and others."""
        self.clean: set[int] = set()
        """Those of `kept` that the disk has."""
        self._disk = disk
        self._number = number
        self._tree = tree
        self._write_back = write_back
        # Where a dirty bucket is not here, the disk has one above it that has split into it and others.
        self._outdated: dict[int, _Outdated] = {}
        self._seals: deque[_Seal] = deque()
        self._size = 0

    @property
    def oldest_age(self) -> int:
        return self._seals[0].age

    def at(self, node: int) -> bytes | None:
        """The bucket of a node that is one, as of the newest seal; None when nobody has it."""
        bucket = self.kept.get(node)
        return self._disk.get(self._key(node)) if bucket is None else bucket

    def _key(self, node: int) -> bytes:
        return keys.state_bucket(self._number, first_of(node))

    def outdate(self, changed: Iterable[int]) -> None:
        """These buckets are about to change, the tree not yet: remember what the disk has of them."""
        kept, clean, outdated, hash_of = self.kept, self.clean, self._outdated, self._tree.hash_of
        # In order, as RocksDB takes rows faster; backwards, because they are taken from the end.
        nodes = sorted((node for node in changed if node not in kept or node in clean), reverse=True)
        clean.difference_update(nodes)
        seal = _Seal(self._size, self._write_back.age, nodes)
        for node in seal.nodes:
            outdated[node] = _Outdated(hash_of(node), seal)
        if seal.nodes:
            self._seals.append(seal)
            self._write_back.sealed(self)

    def divided(self, node: int, into: Iterable[int]) -> None:
        """A changed bucket has split into these. Where the disk has nothing, they need not be written
        together."""
        outdated = self._outdated.get(node)
        if outdated is not None and outdated.hash == EMPTY:
            del self._outdated[node]
            self._apart(into, outdated.since)

    def _apart(self, nodes: Iterable[int], since: _Seal) -> None:
        """The disk has none of these, nor anything that becomes them."""
        self._outdated |= dict.fromkeys(nodes, _Outdated(EMPTY, since))
        since.nodes.extend(nodes)

    def change(self, changed: dict[int, bytes], divided: Iterable[int], size: int, rows: int) -> None:
        """Makes these the newest, and lets go of those that have split: a seal of the journal of `size`
        blocks, itself included, that put so many rows into them."""
        before = len(self.kept)
        self.kept.update(changed)
        for node in divided:
            self.kept.pop(node, None)
        self._write_back.count += len(self.kept) - before
        self._write_back.age += rows + size - self._size
        self._size = size

    def loaded(self, size: int) -> None:
        """The disk has the map as of a journal of `size` blocks, or newer."""
        self._size = size

    def drop(self) -> None:
        """The ledger is no more; nothing of it is to be written."""
        self._write_back.forget(self)
        self._write_back.count -= len(self.kept)
        self.kept, self.clean, self._outdated, self._seals = {}, set(), {}, deque()

    def let_go(self, wanted: int) -> int:
        """Forgets so many clean buckets, or as many as there are; how many."""
        gone = min(wanted, len(self.clean))
        for _ in range(gone):
            del self.kept[self.clean.pop()]
        return gone

    def write_oldest(self, batch: Batch) -> int:
        """Puts into `batch` what is to be where the disk has the oldest outdated bucket; how many that is."""
        node = self._seals[0].nodes.pop()
        outdated = self._outdated.pop(node, None)
        if outdated is None:
            return 0  # It has split, and the disk had nothing there.
        written = [node] if node in self.kept else self._homes(node, outdated)
        for each in written:
            bucket = self.kept[each]
            if len(bucket) > BUCKET_HEAD_SIZE_BYTES:
                batch.put(self._key(each), bucket)
            elif each == written[0] and outdated.hash != EMPTY:
                batch.delete(self._key(each))
        self.clean.update(written)
        return len(written)

    def _homes(self, node: int, outdated: _Outdated) -> list[int]:
        """Of the buckets into which one has split: first the one that takes its place, then those that have
        rows which the disk would lose. The others are new to the disk."""
        stored = self._disk.get(self._key(node)) or BUCKET_PREFIX
        try:
            right = stored_hash(stored) == outdated.hash
        except IndexError:
            right = False
        if not right:
            raise InvariantBroken(
                f"ledger {self._number}: state bucket {first_of(node)} is not the one that was sealed"
            )
        rows = range(BUCKET_HEAD_SIZE_BYTES, len(stored), ROW_SIZE_BYTES)
        place = first_of(node)
        homes = [self._tree.bucket_over(place)]
        homes += [self._tree.bucket_of(stored[row : row + HASH_SIZE_BYTES]) for row in rows]
        others = []
        while place < end_of(node):
            bucket = self._tree.bucket_over(place)
            if bucket not in homes:
                others.append(bucket)
            place = end_of(bucket)
        self._apart(others, outdated.since)
        return list(dict.fromkeys(homes))

    def oldest_is_written(self, batch: Batch) -> bool:
        """Whether nothing is left of the oldest seal; if so, `batch` says up to where the map is written."""
        if self._seals[0].nodes:
            return False
        self._seals.popleft()
        size = self._seals[0].size if self._seals else self._size
        batch.put(keys.state_written(self._number), U64.pack(size))
        return True

    def stored_from(self, start: int) -> tuple[int, bytes] | None:
        """The first bucket that the disk must have of those that begin at number `start` or after it: its
        node and its hash."""
        while start < NUMBERS_END:
            node = self._outdated_at(start) or self._tree.bucket_over(start)
            outdated = self._outdated.get(node)
            hashed = self._tree.hash_of(node) if outdated is None else outdated.hash
            if hashed != EMPTY and first_of(node) == start:
                return node, hashed
            start = end_of(node)
        return None

    def _outdated_at(self, number: int) -> int | None:
        """The node that begins there whose bucket the disk has, instead of those that it has split into."""
        bucket = self._tree.bucket_over(number)
        while bucket > 1 and bucket not in self._outdated:
            bucket >>= BITS_PER_LEVEL
        return bucket if bucket in self._outdated else None


def merge(rows: bytes, others: list[bytes]) -> bytes:
    """Packed rows with `others`, each instead of an older row of its key if there is one."""
    starts = range(0, len(rows), ROW_SIZE_BYTES)
    by_key = {rows[i : i + HASH_SIZE_BYTES]: rows[i : i + ROW_SIZE_BYTES] for i in starts}
    by_key.update((row[:HASH_SIZE_BYTES], row) for row in others)
    return b"".join(sorted(by_key.values()))


def stored_hash(bucket: bytes) -> bytes:
    """Of what the store has as a bucket. Raises IndexError when it is none, or has not the form of one."""
    if len(bucket) % ROW_SIZE_BYTES != BUCKET_HEAD_SIZE_BYTES or len(bucket) == BUCKET_HEAD_SIZE_BYTES:
        raise IndexError(f"it has {len(bucket)} bytes")
    if bucket[0] != BUCKET_PREFIX[0] or bucket[1] > LEVEL_MAX:
        raise IndexError("it is no bucket of the state map")
    if len(bucket) > BUCKET_SIZE_BYTES_MAX:
        rows = bucket[BUCKET_HEAD_SIZE_BYTES:]
        # Its hash is that of the buckets below it, which does not say where and in what order their rows lie.
        if bucket[1] < LEVEL_MAX or merge(rows, []) != rows:
            raise IndexError("it has too many rows, or they are not in order")
    return hash_of_stored(bucket)


def hash_of_stored(bucket: bytes) -> bytes:
    """The hash of the node at which this is stored: with too many rows, at depth 20, it is several."""
    size_bytes = len(bucket)
    if size_bytes == BUCKET_HEAD_SIZE_BYTES:
        return EMPTY
    if size_bytes <= BUCKET_SIZE_BYTES_MAX:
        return hashlib.sha256(bucket).digest()
    return node_hash(bucket[BUCKET_HEAD_SIZE_BYTES:], BITS_PER_LEVEL * bucket[1])
