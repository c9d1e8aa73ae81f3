"""What a signed checkpoint commits to: places in the journal, and the state of every key."""

from __future__ import annotations

import hashlib

from msgspec import UNSET, UnsetType

from stele.verify import shape
from stele.verify.checkpoint import Checkpoint
from stele.verify.erasures import check_named
from stele.verify.errors import BrokenChain, Incomplete, Malformed, Mismatch
from stele.verify.merkle import leaf_hash, verify_inclusion
from stele.verify.proof_shape import Place, Seal, ShownErasure
from stele.verify.state_map import StateRow, check_state_proof, place_of

_HASH_SIZE_BYTES = 32
_TRANSACTION_ID_SIZE_BYTES = 16


class Evidence:
    """A checkpoint whose signatures were checked, and the state root that its last block commits to."""

    def __init__(self, checkpoint: Checkpoint, ledger: str, seal: Seal | UnsetType) -> None:
        """`ledger` is the ledger's id in hex. Raises unless the seal is the last block."""
        self.checkpoint = checkpoint
        self._ledger = ledger
        self._state_root = None if seal is UNSET else self._checked_seal(seal)

    def state_row(self, table_id: str, key: str, proof: shape.StateProof) -> StateRow | None:
        """The newest revision of a key as of the checkpoint; None when there never was one."""
        if self._state_root is None:
            raise Incomplete("a state proof needs the seal that commits to its root")
        return check_state_proof(proof, place_of(self._ledger, table_id, key), self._state_root)

    def check_place(self, leaf: bytes, place: Place, what: str, named_seq: int | None = None) -> None:
        """Raise unless the leaf with this hash stands at its place in the journal.

        `named_seq` is its block as the state map names it. Then the way through the block may be left out:
        the map, which every cosigner has recomputed from the blocks, says already that the leaf is there.
        """
        header = place.header
        self._check_header(header, what)
        if header.kind != "tx":
            raise Mismatch(f"{what}: kind of the block", expected="tx", found=header.kind)
        if named_seq is not None and place.index is UNSET and place.leaf_path is UNSET:
            if header.seq != named_seq:
                raise Mismatch(f"{what}: block", expected=named_seq, found=header.seq)
        elif isinstance(place.index, UnsetType) or isinstance(place.leaf_path, UnsetType):
            raise Incomplete(f"{what}: no way from the leaf through its block")
        else:
            root = shape.decode_hex(header.revision_root, _HASH_SIZE_BYTES, f"{what}: revision_root")
            path = shape.decode_hashes(place.leaf_path, f"{what}: leaf_path")
            verify_inclusion(leaf, place.index, header.revision_count, path, root)
        self._check_included(header, place.path, what)

    def check_erasure(self, leaf: shape.Leaf, seq: int, shown: ShownErasure) -> int:
        """The block that erased the content of a revision of block `seq`; raises unless it names it."""
        header, erasure = shown.header, shown.info.erasure
        self._check_header(header, "erasure")
        if header.kind != "erasure" or not isinstance(erasure, shape.Erasure):
            raise Mismatch("erasure: kind of the block", expected="erasure", found=header.kind)
        if header.seq <= seq:
            raise BrokenChain("block of the erasure", expected=f"> {seq}", found=header.seq)
        digest = hashlib.sha256(shape.canonical(shown.info)).hexdigest()
        if digest != header.info:
            raise Mismatch("erasure: info", expected=header.info, found=digest)
        check_named(erasure, leaf.table, leaf.key, leaf.version, header.seq)
        self._check_included(header, shown.path, "erasure")
        return header.seq

    def _checked_seal(self, seal: Seal) -> bytes:
        header = seal.header
        self._check_header(header, "seal")
        if header.kind != "seal" or not isinstance(header.state_root, str):
            raise Mismatch("kind of the last block", expected="seal", found=header.kind)
        # A seal speaks for the blocks before it. Were it not the last one, something newer could be hidden.
        if header.seq != self.checkpoint.size - 1:
            raise Mismatch("block of the seal", expected=self.checkpoint.size - 1, found=header.seq)
        self._check_included(header, seal.path, "seal")
        return shape.decode_hex(header.state_root, _HASH_SIZE_BYTES, "state_root")

    def _check_header(self, header: shape.Header, what: str) -> None:
        if header.ledger != self._ledger:
            raise Mismatch(f"{what}: ledger id", expected=self._ledger, found=header.ledger)
        if header.names_ledger or (header.kind != "seal" and header.state_root is not UNSET):
            raise Malformed(f"{what}: the header has members of another kind of block")
        shape.check_time(header.at, f"{what}: at")
        shape.decode_hex(header.tx, _TRANSACTION_ID_SIZE_BYTES, f"{what}: tx")

    def _check_included(self, header: shape.Header, path: str, what: str) -> None:
        hashed = leaf_hash(shape.canonical(header))
        nodes = shape.decode_hashes(path, f"{what}: path")
        verify_inclusion(hashed, header.seq, self.checkpoint.size, nodes, self.checkpoint.root)


def check_previous(leaf: shape.Leaf, seq: int) -> None:
    """Raise BrokenChain unless version and `prev_seq` fit each other and the block `seq` of the revision."""
    if (leaf.prev_seq is None) != (leaf.version == 0):
        raise BrokenChain(f"prev_seq of version {leaf.version}", found=leaf.prev_seq)
    if leaf.prev_seq is not None and leaf.prev_seq > seq:
        raise BrokenChain("prev_seq", expected=f"<= {seq}", found=leaf.prev_seq)
