"""Checks one block of a running node's store against the journal's tree: bytes that changed on the disk are
found before somebody asks for them. `fsck` checks everything, of a stopped node."""

from __future__ import annotations

import hashlib

from stele.format.block import parse_header
from stele.format.errors import FormatError
from stele.format.merkle import leaf_hash, root_of_leaves
from storage.errors import InvariantBroken
from storage.journal import Journal, decode_leaf


def check_block(journal: Journal, seq: int) -> None:
    """Recomputes block `seq`: header against the tree, information and leaves against the header, and each
    revision's payload against its commitment, unless it is erased.

    Raises InvariantBroken, which names what differs, BlockUnknown and StorageFailed.
    """
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
    for encoded, row in journal.revisions(block):
        leaf = decode_leaf(encoded)
        found = hashlib.sha256(row.salt + row.payload).hexdigest()
        if row.erased_by is None and found != leaf.commitment:
            raise InvariantBroken(
                f"block {seq}: the content of version {row.version} of document {leaf.key!r} in "
                f"{leaf.table!r} is not what its leaf commits to"
            )
