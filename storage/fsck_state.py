"""fsck, the state map: recomputed from the journal's leaves, seal by seal, and compared bucket by bucket."""

from __future__ import annotations

from stele.format.block import Header
from stele.format.state_map import key_hash, pack_row
from storage import keys, rows
from storage.engine import Engine
from storage.findings import FsckReport
from storage.state_map import RecentBuckets, StateMap


class ReplayedState:
    """The map as the journal makes it. Memory: about 120 bytes a key, and up to 45 MB for the tree."""

    def __init__(self, engine: Engine, report: FsckReport, name: str, row: rows.LedgerRow) -> None:
        self._engine = engine
        self._report = report
        self._name = name
        self._row = row
        self._unsealed: dict[bytes, bytes] = {}
        self._buckets: dict[bytes, bytes] = {}
        self._map = StateMap(engine, row.number, RecentBuckets())
        self.newest: rows.Sealed | None = None
        self.seals = 0

    def put(self, table: str, key: str, version: int, seq: int, leaf_hash: bytes) -> None:
        """Takes in a revision; later ones of the same key replace it."""
        hashed = key_hash(self._row.id, table, key)
        self._unsealed[hashed] = pack_row(hashed, version, seq, leaf_hash)

    def seal(self, where: str, header: Header, size: int, root: bytes) -> None:
        """Checks a seal's state root, and the row that remembers the seal."""
        self._map.stage(self._unsealed.values(), self._buckets.get)
        self._map.seal(self._keep)
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

    def _keep(self, key: bytes, bucket: bytes) -> None:
        if bucket:
            self._buckets[key] = bucket
        else:
            self._buckets.pop(key, None)

    def check_end(self, end: rows.JournalEnd) -> None:
        """Compares what is stored with the state as of the newest seal; names each bucket that is wrong."""
        where = f"ledger {self._name!r}"
        if end.sealed != self.newest:
            self._report.add(f"{where} end of journal", "it does not name the newest seal of the journal")
        self._check_seal_rows(where)
        prefix = keys.of_ledger(b"S", self._row.number)
        missing = set(self._buckets)
        for key, stored in self._engine.scan(prefix, keys.end_of(prefix)):
            number = int.from_bytes(key[len(prefix) :], "big")
            expected = self._buckets.get(key)
            missing.discard(key)
            if expected is None:
                self._report.add(f"{where} state bucket {number}", "the journal makes no such bucket")
            else:
                self._report.compare(f"{where} state bucket {number}", stored, expected)
        for key in sorted(missing):
            number = int.from_bytes(key[len(prefix) :], "big")
            self._report.add(f"{where} state bucket {number}", "the row is missing")

    def _check_seal_rows(self, where: str) -> None:
        prefix = keys.of_ledger(b"Z", self._row.number)
        count = sum(1 for _ in self._engine.scan(prefix, keys.end_of(prefix)))
        if count != self.seals:
            self._report.add(f"{where} seals", f"{count} rows are stored, but the journal has {self.seals}")
