"""Reads of a ledger's journal: blocks, the tree's roots and proofs."""

from __future__ import annotations

import msgspec

from stele.format.block import parse_header
from stele.format.merkle import leaf_hash, path_in_leaves
from storage import keys, rows
from storage.disk import Disk
from storage.errors import BlockUnknown, InvariantBroken
from storage.ledger_state import LedgerState, stored_block
from storage.view import Revision


class Leaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A revision leaf, decoded (DESIGN.md section 2)."""

    commitment: str
    key: str
    op: str
    prev_seq: int | None
    table: str
    version: int


decode_leaf = msgspec.json.Decoder(Leaf).decode


class Journal:
    """The journal of one ledger, as of now. Raises `BlockUnknown` for blocks it does not have yet."""

    def __init__(self, disk: Disk, state: LedgerState) -> None:
        self._disk = disk
        self._state = state

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def ledger_id(self) -> bytes:
        return self._state.row.id

    def block(self, seq: int) -> rows.StoredBlock:
        if not 0 <= seq < self.size:
            raise BlockUnknown(seq, self.size)
        return stored_block(self._disk, self._state.number, seq)

    def header(self, seq: int) -> bytes:
        return self.block(seq).header

    def leaf_hash(self, seq: int) -> bytes:
        if not 0 <= seq < self.size:
            raise BlockUnknown(seq, self.size)
        return self._state.tree.node(0, seq)

    def revisions(self, block: rows.StoredBlock) -> list[tuple[bytes, rows.RevisionRow]]:
        """The leaf and the row of each revision of a block, in the order of its leaves."""
        seq = parse_header(block.header).seq
        found = []
        for index, leaf in enumerate(block.leaves):
            found.append((leaf, self._stored_revision(decode_leaf(leaf), seq, index)))
        return found

    def _stored_revision(self, leaf: Leaf, seq: int, index: int) -> rows.RevisionRow:
        number = table_number(leaf.table)
        stem = keys.revisions_of_table(self._state.number, number) + leaf.key.encode() + b"\0"
        row = self._disk.get(stem + keys.revision_suffix(seq, index))
        if row is None:
            raise InvariantBroken(
                f"ledger {self._state.name!r}: block {seq} names revision {leaf.version} of document"
                f" {leaf.key!r} in {leaf.table!r}, whose row is missing"
            )
        return rows.decode_revision(row)

    def leaf_path(self, revision: Revision) -> tuple[rows.StoredBlock, list[bytes]]:
        """The block of `revision`, and its leaf's inclusion path to the header's `revision_root`."""
        block = self.block(revision.seq)
        return block, path_in_leaves([leaf_hash(leaf) for leaf in block.leaves], revision.leaf_index)

    def root(self, size: int) -> bytes:
        self._check_size(size)
        return self._state.tree.root(size)

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Inclusion proof of block `seq` in the tree of `size` blocks (RFC 6962, section 2.1.1)."""
        self._check_size(size)
        if not 0 <= seq < size:
            raise BlockUnknown(seq, size)
        return self._state.tree.inclusion(seq, size)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Consistency proof between two sizes (RFC 6962, section 2.1.2); empty when they are equal."""
        self._check_size(new_size)
        if not 0 < old_size <= new_size:
            raise BlockUnknown(old_size - 1, new_size)
        return self._state.tree.consistency(old_size, new_size)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile (C2SP tlog-tiles), all of which must exist."""
        return self._state.tree.tile(level, index, width)

    def seq_at(self, at: int) -> int | None:
        """The newest block committed at or before `at` (microseconds since the epoch). Block times
        never go back, so a binary search finds it."""
        low, high = 0, self.size
        while low < high:
            middle = (low + high) // 2
            if parse_header(self.header(middle)).at_us <= at:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low else None

    def _check_size(self, size: int) -> None:
        if not 0 < size <= self.size:
            raise BlockUnknown(size - 1, self.size)


def table_number(table_id: str) -> int:
    """The number in a table id `name@number` (`$tables@0` is the catalogue)."""
    _, _, number = table_id.rpartition("@")
    return int(number)
