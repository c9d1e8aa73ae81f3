"""Checks a running node's store a row at a time: damage is found before somebody asks for what it hit.
`fsck` recomputes everything, of a stopped node.

Each function raises InvariantBroken, which names what differs, and StorageFailed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from stele.format.block import parse_header
from stele.format.errors import FormatError
from stele.format.merkle import leaf_hash, root_of_leaves
from stele.format.tiles import TILE_HEIGHT, TILE_WIDTH
from storage import keys, rows
from storage.disk import Disk
from storage.errors import InvariantBroken
from storage.journal import Journal, Leaf, decode_leaf, table_number
from storage.ledger_state import LedgerState
from storage.state_buckets import stored_hash
from storage.state_tree import NUMBERS_END, first_of
from storage.tree import TILE_SIZE_BYTES, Tile, split_tile


def check_block(disk: Disk, state: LedgerState, seq: int) -> None:
    """Recomputes block `seq`: header against the tree, information and leaves against the header, each
    revision's payload against its commitment (unless it is erased), current rows against the newest revision,
    and the tiles that the block completed against those above. Raises BlockUnknown too."""
    journal = Journal(disk, state)
    block = journal.block(seq)
    if leaf_hash(block.header) != journal.leaf_hash(seq):
        raise InvariantBroken(f"block {seq}: its header is not the one in the tree")
    try:
        header = parse_header(block.header)
    except FormatError as error:
        raise InvariantBroken(f"block {seq}: {error}") from error
    if hashlib.sha256(block.information).hexdigest() != header.info:
        raise InvariantBroken(f"block {seq}: its information is not what the header commits to")
    if root_of_leaves([leaf_hash(leaf) for leaf in block.leaves]).hex() != header.revision_root:
        raise InvariantBroken(f"block {seq}: its revisions are not what the header commits to")
    for index, (encoded, row) in enumerate(journal.revisions(block)):
        leaf = decode_leaf(encoded)
        expected = leaf.version, index, rows.OP_NUMBERS[leaf.op], header.at_us, leaf.prev_seq, header.tx
        if (*row[:5], row.tx.hex()) != expected:
            raise InvariantBroken(
                f"block {seq}: the row of version {leaf.version} of document {leaf.key!r} in "
                f"{leaf.table!r} is not what its leaf says"
            )
        found = hashlib.sha256(row.salt + row.payload).hexdigest()
        if row.erased_by is None and found != leaf.commitment:
            raise InvariantBroken(
                f"block {seq}: the content of version {row.version} of document {leaf.key!r} in "
                f"{leaf.table!r} is not what its leaf commits to"
            )
        own = rows.Current(leaf.version, seq, index, rows.OP_NUMBERS[leaf.op], leaf_hash(encoded))
        _check_current(disk, state, leaf, own)
    _check_tiles(disk, state, seq + 1)


def _check_current(disk: Disk, state: LedgerState, leaf: Leaf, own: rows.Current) -> None:
    """The current row is this revision's own or that of a later one."""
    seq = own.seq
    stored = disk.get(keys.current_of_table(state.number, table_number(leaf.table)) + leaf.key.encode())
    encoded = rows.encode_current(*own)
    if stored == encoded:
        return
    if stored is not None and len(stored) == len(encoded):
        current = rows.decode_current(stored)
        later = (seq, own.leaf_index) < (current.seq, current.leaf_index) and current.seq < state.size
        if later and current.version > own.version:
            return
    raise InvariantBroken(
        f"block {seq}: the current row of document {leaf.key!r} in {leaf.table!r} does not follow version "
        f"{leaf.version}"
    )


def _check_tiles(disk: Disk, state: LedgerState, size: int) -> None:
    """The tiles that became full when the journal had `size` blocks."""
    level = 0
    while size % TILE_WIDTH == 0:
        size //= TILE_WIDTH
        where = f"tile {size - 1} of level {level}"
        stored = disk.get(keys.tile(state.number, level, size - 1))
        if stored is None or len(stored) != TILE_SIZE_BYTES:
            raise InvariantBroken(f"{where} is missing or short")
        if Tile(split_tile(stored)).root != state.tree.node(TILE_HEIGHT * (level + 1), size - 1):
            raise InvariantBroken(f"{where} is not the one that the tree above it was made of")
        level += 1


def check_bucket_at(disk: Disk, state: LedgerState, start: int) -> int | None:
    """Checks the first bucket of the state map that the disk has from number `start` on, and that none is
    missing before it; returns the number after it, None when there is no such bucket.

    It is compared with the tree of the newest seal, or with what the tree was when it was written: newer ones
    wait in memory.
    """
    prefix = keys.of_ledger(b"S", state.number)
    row = disk.cursor(keys.end_of(prefix)).seek(keys.state_bucket(state.number, start))
    number = NUMBERS_END if row is None else int.from_bytes(row[0][len(prefix) :], "big")
    expected = state.map.buckets.stored_from(start)
    if expected is not None and first_of(expected[0]) < number:
        raise InvariantBroken(f"state bucket {first_of(expected[0])} is missing")
    if row is None:
        return None
    if expected is None or first_of(expected[0]) != number:
        raise InvariantBroken(f"state bucket {number} is where none begins")
    try:
        found = stored_hash(row[1])
    except IndexError as error:
        raise InvariantBroken(f"state bucket {number}: {error}") from error
    if found != expected[1]:
        raise InvariantBroken(f"state bucket {number} is not the one that was sealed")
    return number + 1


def check_checkpoint(state: LedgerState, size: int, note: str) -> None:
    """A kept checkpoint states the size that it is kept under, and the journal's root of that size."""
    lines = note.split("\n")
    try:
        right = 0 < size <= state.size and lines[1] == str(size)
        right = right and base64.b64decode(lines[2], validate=True) == state.tree.root(size)
    except (IndexError, binascii.Error):
        right = False
    if not right:
        raise InvariantBroken(f"the checkpoint kept for {size} blocks is not one of this journal")
