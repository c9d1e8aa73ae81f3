"""Checking blocks one after another: each against itself and against the one before."""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec
from msgspec import UNSET

from stele.format.canonical import parse_object
from stele.format.errors import CanonicalError
from stele.verify import shape
from stele.verify.erasures import Erasures
from stele.verify.errors import BrokenChain, Malformed, Mismatch
from stele.verify.history import History
from stele.verify.limits import EXPORT_LINE_SIZE_BYTES_MAX
from stele.verify.merkle import TreeBuilder, leaf_hash, root_of
from stele.verify.state_map import StateReplay, StateRow

_HASH_SIZE_BYTES = 32
_SALT_SIZE_BYTES = 32
_NO_PREVIOUS = "0" * 64
_GENESIS = ("json-rfc8785", "rfc6962-sha256")
_transaction_id_matches = re.compile("[0-9a-f]{32}").fullmatch
_block_decoder = msgspec.json.Decoder(shape.Block)


class Chain:
    """A journal as far as it was read.

    `append` checks a block's own hashes, its link to the block before, its time and the versions of its
    documents, and adds its header to the tree. With the whole journal before it, a seal's state root is
    recomputed.
    """

    def __init__(self, ledger: str, name: str, *, first_seq: int = 0, history: bool = True) -> None:
        """`ledger` is the ledger id in hex. Without `history` no key is remembered (see History), and
        state roots are not recomputed; nor are they when `first_seq` is not 0."""
        self.ledger = ledger
        self.name = name
        self.next_seq = first_seq
        self.revisions = 0
        self.tree = TreeBuilder()
        self.first_at = ""
        self.last_at = ""
        self.history = History(first_seq) if history else None
        self.erasures = Erasures()
        self.state = StateReplay(ledger) if history and first_seq == 0 else None
        self.seals = 0
        self.state_root: bytes | None = None
        # Unknown in an export that begins later: its first block's link then leads out of what is shown.
        self._previous = _NO_PREVIOUS if first_seq == 0 else None

    @property
    def previous(self) -> str | None:
        """The leaf hash of the last block in hex; None when it was not seen."""
        return self._previous

    def restore(self, tree: TreeBuilder, previous: str, first_at: str, last_at: str) -> None:
        """Go on behind `tree.size` blocks that were checked before."""
        self.tree = tree
        self.next_seq = tree.size
        self._previous = previous
        self.first_at, self.last_at = first_at, last_at

    def append(self, line: bytes) -> None:
        """Check the next block, JSON text as served; raise VerificationError."""
        seq = self.next_seq
        if len(line) > EXPORT_LINE_SIZE_BYTES_MAX:
            raise Malformed(
                f"block {seq}: bytes", expected=f"<= {EXPORT_LINE_SIZE_BYTES_MAX}", found=len(line)
            )
        block = shape.decode(_block_decoder, line, f"block {seq}")
        header, information = shape.canonical(block.header), shape.canonical(block.info)
        self._check_header(block.header)
        _expect(seq, "info", sha256(information).hexdigest(), block.header.info)
        self.erasures.check_block(block, seq)
        # Three colons for the block's own members.
        colons = 3 + header.count(b":") + information.count(b":") + self._check_revisions(block)
        _check_members(line, colons, seq)

        hashed = leaf_hash(header)
        self.tree.append(hashed)
        self._previous = hashed.hex()
        self.first_at = self.first_at or block.header.at
        self.last_at = block.header.at
        self.next_seq = seq + 1
        self.revisions += len(block.revisions)

    def _check_header(self, header: shape.Header) -> None:
        seq = self.next_seq
        if header.seq != seq:
            raise BrokenChain(f"block {seq}: seq", expected=seq, found=header.seq)
        _expect(seq, "ledger", self.ledger, header.ledger)
        if self._previous is not None and header.prev != self._previous:
            raise BrokenChain(f"block {seq}: prev", expected=self._previous, found=header.prev)
        if _transaction_id_matches(header.tx) is None:
            raise Malformed(f"block {seq}: tx", expected="32 lowercase hex digits", found=header.tx[:64])
        shape.check_time(header.at, f"block {seq}: at")
        # Texts of this one form sort as their times do.
        if header.at < self.last_at:
            raise BrokenChain(f"block {seq}: at", expected=f">= {self.last_at}", found=header.at)
        if (seq == 0) != (header.kind == "genesis"):
            expected = "genesis" if seq == 0 else "another than genesis"
            raise Mismatch(f"block {seq}: kind", expected=expected, found=header.kind)
        if seq == 0:
            _expect(seq, "name", self.name, header.name)
            _expect(seq, "codec and hash profile", _GENESIS, (header.codec, header.hash_profile))
            _expect(seq, "revision_count", 0, header.revision_count)
        elif header.names_ledger:
            raise Malformed(f"block {seq}: codec, hash_profile and name belong to the genesis block only")
        self._check_seal(header)

    def _check_seal(self, header: shape.Header) -> None:
        """A seal has a state root and no revisions; anything else has no state root."""
        seq = self.next_seq
        if header.kind != "seal":
            if header.state_root is not UNSET:
                raise Malformed(f"block {seq}: state_root belongs to a seal only")
            return
        _expect(seq, "revision_count", 0, header.revision_count)
        if not isinstance(header.state_root, str):
            raise Malformed(f"block {seq}: a seal without state_root")
        self.state_root = shape.decode_hex(header.state_root, _HASH_SIZE_BYTES, f"block {seq}: state_root")
        self.seals += 1
        if self.state is not None:
            _expect(seq, "state root", self.state.root().hex(), header.state_root)

    def _check_revisions(self, block: shape.Block) -> int:
        """Check leaves, commitments and their root; return how many colons their JSON must hold."""
        seq = self.next_seq
        _expect(seq, "revision_count", block.header.revision_count, len(block.revisions))
        hashes = []
        colons = 0
        for index, revision in enumerate(block.revisions):
            leaf = shape.canonical(revision.leaf)
            payload = b""
            if isinstance(revision.erased, int):
                self.erasures.claim(revision, seq, index)
            else:
                payload = _payload(revision, seq, index)
                _check_commitment(revision, payload, seq, index)
            _check_previous(revision.leaf, seq)
            if self.history is not None:
                self.history.append(revision.leaf, seq)
            hashes.append(leaf_hash(leaf))
            if self.state is not None:
                row = StateRow(revision.leaf.version, seq, hashes[-1])
                self.state.put(revision.leaf.table, revision.leaf.key, row)
            # Two for leaf and salt (or erased), one for data.
            colons += 2 + leaf.count(b":") + (payload.count(b":") + 1 if payload else 0)
        _expect(seq, "revision_root", block.header.revision_root, root_of(hashes).hex())
        return colons


def _payload(revision: shape.Revision, seq: int, index: int) -> bytes:
    """The canonical document, or nothing for a delete."""
    is_put = revision.leaf.op == "put"
    if is_put != isinstance(revision.data, msgspec.Raw):
        raise Malformed(f"block {seq}: revision {index}: data belongs to a put, and to nothing else")
    if not isinstance(revision.data, msgspec.Raw):
        return b""
    try:
        return parse_object(bytes(revision.data))[1]
    except CanonicalError as error:
        raise Malformed(f"block {seq}: revision {index}: data: {error}") from None


def _check_commitment(revision: shape.Revision, payload: bytes, seq: int, index: int) -> None:
    if not isinstance(revision.salt, str):
        raise Malformed(f"block {seq}: revision {index}: neither salt nor erased")
    salt = shape.decode_hex(revision.salt, _SALT_SIZE_BYTES, f"block {seq}: revision {index}: salt")
    found = sha256(salt + payload).hexdigest()
    if found != revision.leaf.commitment:
        raise Mismatch(
            f"block {seq}: revision {index}: commitment", expected=revision.leaf.commitment, found=found
        )


def _check_previous(leaf: shape.Leaf, seq: int) -> None:
    if (leaf.prev_seq is None) != (leaf.version == 0) or (leaf.prev_seq or 0) > seq:
        raise BrokenChain(
            f"block {seq}: prev_seq of version {leaf.version} of {leaf.key!r}", found=leaf.prev_seq
        )


def _check_members(line: bytes, colons: int, seq: int) -> None:
    """Refuse a member that stands twice, of which another reader might take the one not checked here.

    Text without \\u escapes holds one colon a member and those inside strings, as its canonical parts do;
    with equally many in both, nothing was dropped. Only otherwise the slow reader has to look.
    """
    if line.count(b":") == colons and b"\\u" not in line:
        return
    try:
        parse_object(line, EXPORT_LINE_SIZE_BYTES_MAX)
    except CanonicalError as error:
        raise Malformed(f"block {seq}: {error}") from None


def _expect(seq: int, what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Mismatch(f"block {seq}: {what}", expected=expected, found=found)
