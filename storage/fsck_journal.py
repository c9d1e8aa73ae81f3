"""fsck, first pass: the chain of blocks, their leaves and revisions, and the tiles over them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from stele.format.block import Header, parse_header
from stele.format.erasure import parse_erasure
from stele.format.errors import FormatError
from stele.format.merkle import leaf_hash, root_of_leaves
from storage import keys, rows
from storage.engine import Engine
from storage.findings import FsckReport, Progress
from storage.fsck_state import ReplayedState
from storage.journal import decode_leaf, table_number
from storage.tree import JournalTree

PROGRESS_EVERY_BLOCKS = 256


@dataclass
class CheckedJournal:
    """What the first pass learned, for the passes that compare other rows with it."""

    tree: JournalTree
    revisions: int = 0
    transactions: int = 0
    newest_use: dict[int, int] = field(default_factory=dict)
    """Newest block that touched each table, by the table's number."""

    erased: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    """Erased revisions that no block has named yet: (table id, key) -> version -> the block they name."""

    erasures: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Erasure blocks, with the number of the table and the key of the document that they name."""


class _Blocks:
    """Walks the blocks of one ledger in order, keeping what the next one must continue."""

    def __init__(self, engine: Engine, report: FsckReport, name: str, row: rows.LedgerRow) -> None:
        self.engine = engine
        self.report = report
        self.name = name
        self.row = row
        self.prev = bytes(32)
        self.last_at = 0
        self.state = ReplayedState(engine, report, name, row)
        tiles: dict[tuple[int, int], bytes] = {}
        self.tiles = tiles
        self.result = CheckedJournal(JournalTree(lambda level, index: tiles[level, index]))

    def where(self, seq: int) -> str:
        return f"ledger {self.name!r} block {seq}"

    def check(self, seq: int, stored: bytes | None) -> None:
        """Checks one block; goes on with what is stored, so that one fault gives few findings."""
        where = self.where(seq)
        if stored is None:
            self.report.add(where, "the row is missing")
            return
        try:
            block = rows.decode_block(stored)
        except msgspec.MsgspecError as error:
            self.report.add(where, f"the row is unreadable: {error}")
            return
        self.report.compare(f"{where} row", stored, rows.encode(block))
        header = self._check_header(where, seq, block)
        hashed = leaf_hash(block.header)
        self.prev = hashed
        self.report.blocks += 1
        for level, index, tile in self.result.tree.append(hashed):
            self.tiles[level, index] = tile
            self._check_tile(level, index, tile)
        if header is not None and header.kind == "seal":
            tree = self.result.tree
            self.state.seal(where, header, tree.size, tree.root(tree.size))

    def _check_tile(self, level: int, index: int, tile: bytes) -> None:
        where = f"ledger {self.name!r} tile {index} of level {level}"
        self.report.tiles += 1
        self.report.compare(where, self.engine.get(keys.tile(self.row.number, level, index)), tile)

    def _check_header(self, where: str, seq: int, block: rows.StoredBlock) -> Header | None:
        """Returns the header when it can be read."""
        try:
            header = parse_header(block.header)
            at = header.at_us
        except FormatError as error:
            self.report.add(f"{where} header", f"it is not a valid header: {error}")
            return None
        claims = (
            ("seq", header.seq, seq),
            ("prev", header.prev, self.prev.hex()),
            ("ledger", header.ledger, self.row.id.hex()),
            ("info", header.info, hashlib.sha256(block.information).hexdigest()),
            ("revision_count", header.revision_count, len(block.leaves)),
            (
                "revision_root",
                header.revision_root,
                root_of_leaves([leaf_hash(x) for x in block.leaves]).hex(),
            ),
        )
        for member, stored, expected in claims:
            if stored != expected:
                self.report.add(f"{where} header", f"{member} is {stored}, but {expected} was computed")
        if at < self.last_at:
            self.report.add(f"{where} header", "its time is before the block before it")
        self.last_at = max(at, self.last_at)
        self._check_transaction(where, seq, header)
        if header.kind == "erasure":
            self._check_erasure(where, seq, block.information)
        for index, leaf in enumerate(block.leaves):
            self._check_leaf(f"{where} revision {index}", header, at, index, leaf)
        return header

    def _check_erasure(self, where: str, seq: int, information: bytes) -> None:
        """What an erasure names must be erased by it: no more, which `check_erased` sees, and no less."""
        try:
            erasure = parse_erasure(information)
            number = table_number(erasure.table)
        except ValueError as error:
            self.report.add(where, f"its information is unreadable: {error}")
            return
        self.result.erasures[seq] = number, erasure.key
        rows_erased = self.result.erased.get((erasure.table, erasure.key), {})
        named = [version for version, by in rows_erased.items() if by == seq and erasure.names(version)]
        for version in named:
            del rows_erased[version]
        wanted = sum(last - first + 1 for first, last in erasure.versions)
        if len(named) != wanted:
            self.report.add(where, f"it erased {wanted} revisions, but the content of {len(named)} is gone")

    def check_erased(self) -> None:
        """At the end: content is gone only where a block says so."""
        for (table, key), versions in self.result.erased.items():
            for version, seq in versions.items():
                self.report.add(
                    f"ledger {self.name!r} document {key!r} of {table!r}, version {version}",
                    f"its content is gone, but block {seq} did not erase it",
                )

    def _check_transaction(self, where: str, seq: int, header: Header) -> None:
        self.result.transactions += 1
        key = keys.transaction(self.row.number, bytes.fromhex(header.tx))
        self.report.compare(f"{where} transaction row", self.engine.get(key), rows.U64.pack(seq))

    def _check_leaf(self, where: str, header: Header, at: int, index: int, encoded: bytes) -> None:
        """A leaf's revision row must hold the payload committed to and repeat what the block says."""
        self.result.revisions += 1
        self.report.revisions += 1
        try:
            leaf = decode_leaf(encoded)
            number = table_number(leaf.table)
        except (msgspec.MsgspecError, ValueError) as error:
            self.report.add(where, f"its leaf is unreadable: {error}")
            return
        self.result.newest_use[number] = header.seq
        self.state.put(leaf.table, leaf.key, leaf.version, header.seq, leaf_hash(encoded))
        where = f"{where} (document {leaf.key!r} of {leaf.table!r}, version {leaf.version})"
        stem = keys.revisions_of_table(self.row.number, number) + leaf.key.encode() + b"\0"
        stored = self.engine.get(stem + keys.revision_suffix(header.seq, index))
        if stored is None:
            self.report.add(where, "its row is missing")
            return
        try:
            revision = rows.decode_revision(stored)
        except ValueError as error:
            self.report.add(where, f"its row is unreadable: {error}")
            return
        if revision.erased_by is not None:
            versions = self.result.erased.setdefault((leaf.table, leaf.key), {})
            versions[leaf.version] = revision.erased_by
        elif hashlib.sha256(revision.salt + revision.payload).hexdigest() != leaf.commitment:
            self.report.add(where, "salt and payload are not what its leaf commits to")
        op = rows.OP_NUMBERS.get(leaf.op, 0xFF)
        tx = bytes.fromhex(header.tx)
        salt = revision.salt.rjust(32, b"\0")
        expected = rows.encode_revision(
            leaf.version, index, op, at, leaf.prev_seq, tx, salt, revision.payload
        )
        if revision.erased_by is not None:
            expected = rows.erased_revision(expected, revision.erased_by)
        self.report.compare(where, stored, expected)


def check_journal(
    engine: Engine, report: FsckReport, progress: Progress, name: str, row: rows.LedgerRow
) -> CheckedJournal:
    """Recomputes the chain, the leaves' roots, the revisions' commitments and the tiles."""
    blocks = _Blocks(engine, report, name, row)
    where = f"ledger {name!r} end of journal"
    stored_end = engine.get(keys.journal_end(row.number))
    try:
        end = rows.decode_journal_end(stored_end or b"")
    except msgspec.MsgspecError as error:
        report.add(where, f"the row is missing or unreadable: {error}")
        return blocks.result
    for seq in range(end.size):
        blocks.check(seq, engine.get(keys.block(row.number, seq)))
        if seq % PROGRESS_EVERY_BLOCKS == 0:
            progress(f"{name}: blocks", seq, end.size)
    progress(f"{name}: blocks", end.size, end.size)
    blocks.check_erased()
    if blocks.prev != end.head:
        report.add(where, f"it names head {end.head.hex()}, but the last block hashes to {blocks.prev.hex()}")
    tree = blocks.result.tree
    if tree.size:
        report.roots[name] = tree.root(tree.size).hex()
    blocks.state.check_end(end)
    _check_genesis(report, name, row, engine)
    _count_rows(engine, report, name, row.number, b"B", end.size, "blocks")
    _count_rows(engine, report, name, row.number, b"T", len(blocks.tiles), "tiles")
    return blocks.result


def _check_genesis(report: FsckReport, name: str, row: rows.LedgerRow, engine: Engine) -> None:
    stored = engine.get(keys.block(row.number, 0))
    where = f"ledger {name!r}"
    try:
        header = parse_header(rows.decode_block(stored or b"").header)
        if header.name != name or header.at_us != row.created_at:
            report.add(where, "its row does not agree with its genesis block")
    except (msgspec.MsgspecError, FormatError):
        # The walk over the blocks has said already that the genesis block is wrong.
        return


def _count_rows(
    engine: Engine, report: FsckReport, name: str, number: int, kind: bytes, expected: int, what: str
) -> None:
    prefix = keys.of_ledger(kind, number)
    count = sum(1 for _ in engine.scan(prefix, keys.end_of(prefix)))
    if count != expected:
        report.add(f"ledger {name!r} {what}", f"{count} rows are stored, but the journal makes {expected}")
