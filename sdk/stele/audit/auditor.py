"""Auditing: every block, every version, every state root and every signed checkpoint, recomputed.

The auditor believes its own copy and the signatures that its policy asks for, and nothing else. Memory: an
entry a key for versions and one for the state map (see stele.verify.history and stele.verify.state_map).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from stele.audit.journal_copy import Incoming, JournalCopy
from stele.client import Ledger, SignedCheckpoint, VerificationFailed
from stele.client.trust import open_checkpoint
from stele.verify.chain import Chain
from stele.verify.checkpoint import Checkpoint
from stele.verify.errors import Incomplete, Mismatch, VerificationError
from stele.verify.policy import TrustPolicy
from stele.verify.saved_chain import Mark, mark, restored, saved

Progress = Callable[[int], None]
"""Called with the number of blocks checked so far."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the copy holds and was checked against. `checkpoints` counts the signed ones compared since the
    auditor began."""

    ledger: str
    size: int
    root: bytes
    revisions: int
    keys: int
    seals: int
    state_root: bytes | None
    checkpoints: int
    new_blocks: int


class Auditor:
    """Audits one ledger into one copy: `replay` once, then `follow_once` as often as one likes."""

    def __init__(
        self,
        ledger: Ledger,
        ledger_id: str,
        origin: str,
        log: TrustPolicy,
        copy: JournalCopy,
        *,
        own: bool = False,
    ) -> None:
        """`log` is the log's key alone, under which checkpoints that were ever signed are compared. `own`:
        the journal is read from the disk of the node that answers, whether it leads or not."""
        self._consistency: Literal["strong", "snapshot"] = "snapshot" if own else "strong"
        self._ledger = ledger
        self._origin = origin
        self._log = log
        self._copy = copy
        self._ledger_id = ledger_id
        self._begin()
        self._checkpoints = 0
        # Blocks that were checked one by one, and wait for a checkpoint; a broken connection leaves some.
        self._incoming: Incoming | None = None

    def _begin(self) -> None:
        self._chain = Chain(self._ledger_id, self._ledger.name)
        self._offset_bytes = self._copy.begin_bytes
        self._digest = self._copy.hashed(self._offset_bytes)
        self._mark: Mark | None = None

    def replay(self, progress: Progress | None = None, *, from_start: bool = False) -> None:
        """Check the copy, and that it is what the checkpoint it was last checked against signs.

        It begins where the last replay was kept, whose result is checked against the same checkpoint, and
        compares what is before with a digest; `from_start`, or when none was kept, with the first block.
        Raises VerificationError.
        """
        note = self._copy.note()
        known = None if note is None else open_checkpoint(note, self._log, self._origin)
        frames = None if from_start or known is None else self._copy.replay()
        if frames is not None:
            self._take_up(frames)
        for line in self._copy.blocks(self._offset_bytes):
            if known is not None and self._chain.next_seq == known.size - 1:
                self._mark_seal()
            self._append(line)
            if known is not None and self._chain.next_seq == known.size:
                _compare(known, self._chain.tree.root())
            if progress is not None:
                progress(self._chain.next_seq)
        if known is not None and self._chain.next_seq < known.size:
            raise Incomplete("blocks of the copy", expected=f">= {known.size}", found=self._chain.next_seq)

    def _take_up(self, frames: Iterator[bytes]) -> None:
        self._chain, at = restored(frames, self._ledger_id, self._ledger.name)
        self._digest = self._copy.hashed(at.offset_bytes)
        if self._digest.digest() != at.digest:
            raise Mismatch(
                f"digest of the first {at.size} blocks of the copy",
                expected=at.digest,
                found=self._digest.digest(),
            )
        self._offset_bytes = at.offset_bytes

    def _append(self, line: bytes) -> None:
        self._chain.append(line)
        self._digest.update(line + b"\n")
        self._offset_bytes += len(line) + 1

    def _mark_seal(self) -> None:
        self._mark = mark(self._chain, self._offset_bytes, self._digest.digest())

    def keep(self) -> None:
        """Keep what the replay has come to beside the copy, unless it has not got to a new checkpoint."""
        if self._mark is not None and self._chain.next_seq == self._mark.size + 1:
            self._copy.keep_replay(saved(self._chain, self._mark))
            self._mark = None

    async def follow_once(self, progress: Progress | None = None) -> AuditReport:
        """Check what the journal has grown by, up to its newest checkpoint, and add it to the copy.

        Raises VerificationFailed, with evidence kept beside the copy, and other SteleErrors.
        """
        newest = await self._ledger.checkpoint()  # under the policy, and extending what was seen before
        before = self._chain.next_seq
        if newest.size > before:
            await self._extend(newest, progress)
        elif newest.size == before:
            self._check_unchanged(newest)
        return AuditReport(
            ledger=self._ledger.name,
            size=self._chain.next_seq,
            root=self._chain.tree.root(),
            revisions=self._chain.revisions,
            keys=0 if self._chain.history is None else self._chain.history.keys,
            seals=self._chain.seals,
            state_root=self._chain.state_root,
            checkpoints=self._checkpoints,
            new_blocks=self._chain.next_seq - before,
        )

    def _check_unchanged(self, newest: SignedCheckpoint) -> None:
        root = self._chain.tree.root()
        if root != newest.root:
            raise VerificationFailed(
                f"the copy's root of {newest.size} blocks is {root.hex()}",
                remembered=self._copy.note(),
                seen=newest.note,
            )

    async def _extend(self, newest: SignedCheckpoint, progress: Progress | None) -> None:
        signed = await self._signed_between(self._chain.next_seq, newest.size)
        signed[newest.size] = newest.note
        if self._incoming is None:
            self._incoming = self._copy.incoming()
        try:
            await self._read(newest.size, signed, self._incoming, progress)
        except VerificationError as error:
            note = signed.get(self._chain.next_seq, newest.note)
            where = self._copy.refuse(self._incoming, note)
            raise VerificationFailed(
                f"the journal does not hold: {error} (evidence: {where})",
                remembered=self._copy.note(),
                seen=note,
            ) from error
        self._copy.accept(self._incoming, newest.note)
        self._incoming = None

    async def _read(
        self, end: int, signed: dict[int, str], incoming: Incoming, progress: Progress | None
    ) -> None:
        async with aclosing(self._export(end)) as lines:
            await anext(lines)  # the head says nothing that is not checked below
            async for line in lines:
                incoming.add(line)
                if self._chain.next_seq == end - 1:
                    self._mark_seal()
                self._append(line)
                note = signed.get(self._chain.next_seq)
                if note is not None:
                    _compare(self._opened(note), self._chain.tree.root())
                    self._checkpoints += 1
                if progress is not None:
                    progress(self._chain.next_seq)
        if self._chain.next_seq != end:
            raise Incomplete("blocks of the journal", expected=end, found=self._chain.next_seq)

    def _export(self, end: int) -> AsyncGenerator[bytes, None]:
        return self._ledger.export(self._chain.next_seq, end, consistency=self._consistency)

    async def _signed_between(self, first: int, end: int) -> dict[int, str]:
        """Every checkpoint that the answering node keeps of sizes above `first` up to `end`."""
        found: dict[int, str] = {}
        async with aclosing(self._ledger.checkpoints(first + 1)) as checkpoints:
            async for checkpoint in checkpoints:
                if checkpoint.size > end:
                    break
                found[checkpoint.size] = checkpoint.note
        return found

    def _opened(self, note: str) -> Checkpoint:
        return open_checkpoint(note, self._log, self._origin)


def _compare(signed: Checkpoint, root: bytes) -> None:
    if signed.root != root:
        raise Mismatch(f"root of {signed.size} blocks", expected=signed.root, found=root)
