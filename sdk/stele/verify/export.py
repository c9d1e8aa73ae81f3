"""Checking an exported journal, offline and in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from stele.format.canonical import parse_object
from stele.format.errors import FormatError
from stele.format.names import check_ledger_name
from stele.verify import shape
from stele.verify.chain import Chain
from stele.verify.checkpoint import Checkpoint, parse_checkpoint
from stele.verify.errors import Incomplete, Malformed, Mismatch
from stele.verify.limits import EXPORT_START_SIZE_BYTES_MAX, PROGRESS_EVERY_BLOCKS
from stele.verify.note import VerifierKey
from stele.verify.policy import TrustPolicy

_LEDGER_ID_SIZE_BYTES = 16
_start_decoder = msgspec.json.Decoder(shape.ExportStart)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export was found to hold.

    `root` is the tree root over all its blocks, None for an export that does not begin at block 0.
    `checkpoint` is the signed one it was checked against, None when no key was given.
    `erased` of the revisions are shown without their content. Of those, `erasures_beyond` name an erasure
    block that lies behind the blocks shown, which only an export that ends early may have.
    `keys` counts documents ever written, None without the history check. `state_root` is that of the
    newest of its `seals`; all were recomputed when `state_checked`. Times are those of the blocks.
    """

    ledger: str
    name: str
    first_seq: int
    blocks: int
    revisions: int
    erased: int
    erasures_beyond: int
    keys: int | None
    seals: int
    state_root: bytes | None
    state_checked: bool
    size: int
    root: bytes | None
    first_at: str
    last_at: str
    checkpoint: Checkpoint | None


def verify_export(
    lines: Iterable[bytes],
    trust: VerifierKey | TrustPolicy | None,
    *,
    ledger_id: str | None = None,
    history: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Check an export, its lines in order, and say what it holds.

    `progress` is called with blocks done and blocks in all, every 1000 blocks and at the end. The other
    arguments are those of `ExportVerifier`. Raises VerificationError.
    """
    verifier = ExportVerifier(trust, ledger_id=ledger_id, history=history)
    for line in lines:
        verifier.feed(line)
        done = verifier.blocks_done
        if progress is not None and done and (done % PROGRESS_EVERY_BLOCKS == 0 or done == verifier.blocks):
            progress(done, verifier.blocks)
    return verifier.finish()


class ExportVerifier:
    """Checks an export as its lines arrive: `feed` each, then `finish`.

    With `trust` (the ledger's log key, or a policy around it) the export must be full, and all of it is
    tied to its signed checkpoint. With None only its inner consistency is checked, which shows damage
    but not forgery. `ledger_id` (32 hex digits) names the ledger expected, if known.

    Memory: one line at a time, and with `history` an entry a key (see `stele.verify.history`).
    """

    def __init__(
        self,
        trust: VerifierKey | TrustPolicy | None,
        *,
        ledger_id: str | None = None,
        history: bool = True,
    ) -> None:
        self._trust = trust
        self._ledger_id = ledger_id
        self._keeps_history = history
        self._begun: tuple[shape.ExportStart, Chain, Checkpoint | None] | None = None

    @property
    def blocks(self) -> int:
        """Blocks the export says it holds; 0 before its first line."""
        if self._begun is None:
            return 0
        start, _, _ = self._begun
        return start.to - start.from_

    @property
    def blocks_done(self) -> int:
        """Blocks checked so far."""
        if self._begun is None:
            return 0
        start, chain, _ = self._begun
        return chain.next_seq - start.from_

    def feed(self, line: bytes) -> None:
        """Check the next line; raise VerificationError."""
        if self._begun is None:
            start = _parse_start(line, self._ledger_id)
            signed = None if self._trust is None else _signed_checkpoint(start, self._trust)
            chain = Chain(start.ledger, start.name, first_seq=start.from_, history=self._keeps_history)
            self._begun = start, chain, signed
            return
        start, chain, _ = self._begun
        if chain.next_seq == start.to:
            raise Malformed(f"the export goes on after its last block, {start.to - 1}")
        chain.append(line)

    def finish(self) -> ExportReport:
        """Check that nothing is missing and return what the export holds; raise VerificationError."""
        if self._begun is None:
            raise Incomplete("the export is empty")
        start, chain, signed = self._begun
        if self.blocks_done < self.blocks:
            raise Incomplete("blocks of the export", expected=self.blocks, found=self.blocks_done)
        if start.to == start.size and chain.erasures.awaited:
            raise Incomplete(
                "the export lacks erasures that its revisions name", found=chain.erasures.awaited
            )
        root = chain.tree.root() if start.from_ == 0 else None
        if signed is not None and root != signed.root:
            raise Mismatch("root of the journal", expected=signed.root, found=root)
        return _report(start, chain, root, signed)


def _parse_start(line: bytes, ledger_id: str | None) -> shape.ExportStart:
    if len(line) > EXPORT_START_SIZE_BYTES_MAX:
        raise Malformed("first line: bytes", expected=f"<= {EXPORT_START_SIZE_BYTES_MAX}", found=len(line))
    start = shape.decode(_start_decoder, line, "first line")
    shape.decode_hex(start.ledger, _LEDGER_ID_SIZE_BYTES, "first line: ledger")
    try:
        parse_object(line, EXPORT_START_SIZE_BYTES_MAX)  # refuses a member that stands twice
        check_ledger_name(start.name)
    except FormatError as error:
        raise Malformed(f"first line: {error}") from None
    if not start.from_ <= start.to <= start.size:
        found = f"{start.from_}, {start.to}, {start.size}"
        raise Malformed("first line: blocks", expected="from <= to <= size", found=found)
    if ledger_id is not None and start.ledger != ledger_id:
        raise Mismatch("ledger of the export", expected=ledger_id, found=start.ledger)
    return start


def _signed_checkpoint(start: shape.ExportStart, trust: VerifierKey | TrustPolicy) -> Checkpoint:
    """The checkpoint that speaks for the whole export."""
    if (start.from_, start.to) != (0, start.size):
        raise Incomplete(
            "an export that a checkpoint proves holds blocks",
            expected=f"0 to {start.size}",
            found=f"{start.from_} to {start.to}",
        )
    if start.checkpoint is None:
        raise Incomplete("the export carries no checkpoint")
    checkpoint = parse_checkpoint(start.checkpoint, trust)
    if checkpoint.size != start.size:
        raise Mismatch("size of the checkpoint", expected=start.size, found=checkpoint.size)
    # A cluster signs all its ledgers with one key; the origin, "<cluster>/<ledger name>", tells them apart.
    if checkpoint.origin.rpartition("/")[2] != start.name:
        raise Mismatch("ledger name in the checkpoint", expected=start.name, found=checkpoint.origin)
    return checkpoint


def _report(
    start: shape.ExportStart, chain: Chain, root: bytes | None, checkpoint: Checkpoint | None
) -> ExportReport:
    return ExportReport(
        ledger=start.ledger,
        name=start.name,
        first_seq=start.from_,
        blocks=start.to - start.from_,
        revisions=chain.revisions,
        erased=chain.erasures.erased,
        erasures_beyond=chain.erasures.awaited,
        keys=None if chain.history is None else chain.history.keys,
        seals=chain.seals,
        state_root=chain.state_root,
        state_checked=chain.state is not None,
        size=start.size,
        root=root,
        first_at=chain.first_at,
        last_at=chain.last_at,
        checkpoint=checkpoint,
    )
