"""fsck, the state map: recomputed from the journal's leaves, seal by seal, and compared bucket by bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from stele.format.block import Header
from stele.format.state_map import BUCKET_HEAD_SIZE_BYTES, EMPTY, key_hash, pack_row
from storage import keys, rows
from storage.engine import Engine
from storage.errors import InvariantBroken
from storage.findings import FsckReport
from storage.state_buckets import WriteBack
from storage.state_map import StateMap
from storage.state_tree import first_of

_NOTHING: Final = b""
"""Stands for a bucket that is not there."""


class _Blank:
    """A disk with nothing on it."""

    def get(self, _key: bytes, /) -> bytes | None:
        return None

    def scan(self, _start: bytes, _end: bytes, /) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


class ReplayedState:
    """The map as the journal makes it. Memory: about 240 bytes a key, and up to 45 MB for the tree.

    A bucket may be stored as of any seal that `keys.state_written` does not count as written: `_stored` has
    what each one that they changed was (the hash), before them and after each. All of them together, with
    what the journal says since, must make the newest root, as a start has it (storage/recovery.py).
    """

    def __init__(self, engine: Engine, report: FsckReport, name: str, row: rows.LedgerRow) -> None:
        self._engine = engine
        self._report = report
        self._name = name
        self._row = row
        self._unsealed: dict[bytes, bytes] = {}
        self._map = StateMap(_Blank(), row.number, WriteBack())
        self._written = self._written_size()
        self._buckets: dict[int, bytes] = {}
        self._stored: dict[int, set[bytes]] = {}
        self._since_written: dict[bytes, bytes] = {}
        self.newest: rows.Sealed | None = None
        self.seals = 0

    def _written_size(self) -> int:
        stored = self._engine.get(keys.state_written(self._row.number))
        if stored is not None and len(stored) != rows.U64.size:
            self._report.add(f"ledger {self._name!r} state written", f"it has {len(stored)} bytes, not 8")
            return 0
        return 0 if stored is None else int.from_bytes(stored, "big")

    def put(self, table: str, key: str, version: int, seq: int, leaf_hash: bytes) -> None:
        """Takes in a revision; later ones of the same key replace it."""
        hashed = key_hash(self._row.id, table, key)
        self._unsealed[hashed] = pack_row(hashed, version, seq, leaf_hash)

    def seal(self, where: str, header: Header, size: int, root: bytes) -> None:
        """Checks a seal's state root, and the row that remembers the seal."""
        self._map.stage(list(self._unsealed.values()))
        changed = {first_of(node): bucket for node, bucket in self._map.seal(size).items()}
        if size > self._written:
            self._since_written |= self._unsealed
            for first, bucket in changed.items():
                before = self._buckets.get(first, _NOTHING)
                self._stored.setdefault(first, {_digest(before)}).add(_digest(_shown(bucket)))
        self._buckets |= {first: _shown(bucket) for first, bucket in changed.items()}
        self._unsealed.clear()
        if header.state_root != self._map.root.hex():
            self._report.add(
                f"{where} header",
                f"state_root is {header.state_root}, but {self._map.root.hex()} was computed",
            )
        self.seals += 1
        self.newest = rows.Sealed(size, root, self._map.root)
        stored = self._engine.get(keys.seal(self._row.number, size))
        self._report.compare(f"ledger {self._name!r} seal of size {size}", stored, rows.encode(self.newest))

    def check_end(self, end: rows.JournalEnd) -> None:
        """Compares what is stored with the state as of the newest seal; names each bucket that is wrong."""
        where = f"ledger {self._name!r}"
        if end.sealed != self.newest:
            self._report.add(f"{where} end of journal", "it does not name the newest seal of the journal")
        self._check_seal_rows(where)
        size = 0 if self.newest is None else self.newest.size
        if self._written > size:
            self._report.add(
                f"{where} state written", f"it says {self._written}, but the newest seal is of {size} blocks"
            )
        if self._check_buckets(where):
            self._check_start(where)

    def _check_buckets(self, where: str) -> bool:
        """Each by itself; whether they are all right."""
        before = self._report.findings_total
        prefix = keys.of_ledger(b"S", self._row.number)
        missing = {first for first, bucket in self._buckets.items() if bucket}
        for key, stored in self._engine.scan(prefix, keys.end_of(prefix)):
            number = int.from_bytes(key[len(prefix) :], "big")
            missing.discard(number)
            self._check_bucket(f"{where} state bucket {number}", number, stored)
        for number in sorted(missing):
            if _digest(_NOTHING) not in self._stored.get(number, ()):
                self._report.add(f"{where} state bucket {number}", "the row is missing")
        return self._report.findings_total == before

    def _check_bucket(self, where: str, number: int, stored: bytes) -> None:
        expected = self._buckets.get(number, _NOTHING)
        earlier = self._stored.get(number)
        if earlier is not None and _digest(stored) in earlier:
            return
        if not expected:
            self._report.add(where, "the journal makes no such bucket")
        else:
            self._report.compare(where, stored, expected)

    def _check_start(self, where: str) -> None:
        """Buckets as of several seals: each one is right, but do they fit?"""
        found = StateMap(self._engine, self._row.number, WriteBack())
        expected = EMPTY if self.newest is None else self.newest.state_root
        try:
            found.load()
            found.stage(list(self._since_written.values()))
            found.seal(0 if self.newest is None else self.newest.size)
        except InvariantBroken as error:
            self._report.add(f"{where} state map", str(error))
            return
        if found.root != expected:
            self._report.add(
                f"{where} state map",
                f"its buckets make root {found.root.hex()} with what blocks from {self._written} on say, but "
                f"the newest seal says {expected.hex()}",
            )

    def _check_seal_rows(self, where: str) -> None:
        prefix = keys.of_ledger(b"Z", self._row.number)
        count = sum(1 for _ in self._engine.scan(prefix, keys.end_of(prefix)))
        if count != self.seals:
            self._report.add(f"{where} seals", f"{count} rows are stored, but the journal has {self.seals}")


def _shown(bucket: bytes) -> bytes:
    """As it is stored: not at all without rows."""
    return bucket if len(bucket) > BUCKET_HEAD_SIZE_BYTES else _NOTHING


def _digest(bucket: bytes) -> bytes:
    return hashlib.sha256(bucket).digest()
