"""The journal of a ledger: blocks, checkpoint, proofs, export."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from stele.client.access import LedgerAccess
from stele.client.errors import NotTrusted, ServerFailed
from stele.client.export import export_lines
from stele.client.limits import PAGE_SIZE_MAX
from stele.client.models import BlockPage, CheckpointPage, Inclusion, KeptCheckpoint
from stele.client.transport import Request
from stele.client.trust import SignedCheckpoint
from stele.verify.checkpoint import parse_checkpoint_text
from stele.verify.errors import VerificationError
from stele.verify.note import split_note


class Journal(LedgerAccess):
    """Reading the journal."""

    async def block(self, seq: int) -> dict[str, Any]:
        """One block as served: header, info, revisions. Raises NotFound."""
        return await self._get(f"/blocks/{seq}", dict[str, Any])

    async def blocks(
        self, from_seq: int = 0, *, limit: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Blocks in order from `from_seq`, at most `limit`."""
        left = limit
        start = str(from_seq)
        while left is None or left > 0:
            query = {"from": start, "limit": str(PAGE_SIZE_MAX if left is None else min(left, PAGE_SIZE_MAX))}
            page = await self._get("/blocks", BlockPage, query)
            for block in page.blocks:
                yield block
            if page.next is None:
                return
            start = str(page.next)
            left = None if left is None else left - len(page.blocks)

    async def checkpoint(self, *, cosignatures: int | None = None) -> SignedCheckpoint:
        """The newest checkpoint. With a trust policy its signature is checked, it must extend what is
        remembered, and it is remembered. `cosignatures`: wait until so many replicas have cosigned it; by
        default as many as the policy asks for. Raises VerificationFailed, and Unavailable when they do not
        come.
        """
        guard = None if self._trust is None else await self.guard()
        floor = None if guard is None else guard.newest()
        query = {} if guard is None else guard.wait_query()
        if cosignatures:
            query["cosignatures"] = str(cosignatures)
        answer = await self._call(Request("GET", self.path + "/checkpoint", query=query))
        try:
            note = answer.body.decode()
        except UnicodeDecodeError as error:
            raise ServerFailed("the checkpoint is not text") from error
        if guard is None:
            return _unverified(note)
        checkpoint = guard.open(note)
        await guard.admit(note, checkpoint, floor)
        return SignedCheckpoint(note, checkpoint.origin, checkpoint.size, checkpoint.root, verified=True)

    async def checkpoints(self, from_size: int = 0) -> AsyncGenerator[KeptCheckpoint, None]:
        """Every checkpoint that the answering node keeps, from a size on, smallest first; unverified."""
        start = from_size
        while True:
            page = await self._get("/checkpoints", CheckpointPage, {"from_size": str(start)})
            for checkpoint in page.checkpoints:
                yield checkpoint
            if page.next is None:
                return
            start = page.next

    async def admit(self, note: str) -> SignedCheckpoint:
        """Checks a signed checkpoint that came by any way against what is remembered, and remembers it.

        Raises VerificationFailed: not signed by the trusted key, or not of the same journal.
        """
        if self._trust is None:
            raise NotTrusted("nothing can be verified without a trust policy")
        guard = await self.guard()
        checkpoint = guard.open(note)
        await guard.admit(note, checkpoint, None)
        return SignedCheckpoint(note, checkpoint.origin, checkpoint.size, checkpoint.root, verified=True)

    async def verifier_key(self) -> str:
        """The key this client trusts for the ledger; taken from the server only on first use."""
        return (await self.guard()).verifier_key

    async def inclusion(self, seq: int, size: int) -> Inclusion:
        """The proof that block `seq` is in the journal of `size` blocks."""
        return await self._get("/proofs/inclusion", Inclusion, {"seq": str(seq), "size": str(size)})

    async def export(
        self,
        from_seq: int = 0,
        to_seq: int | None = None,
        *,
        consistency: Literal["strong", "snapshot"] = "strong",
    ) -> AsyncGenerator[bytes, None]:
        """The journal as NDJSON lines without their line feeds: a head, then one block a line.

        `to_seq` is exclusive, by default the size of the journal when the export begins. A connection that
        breaks is taken up again at the next block. `snapshot`: from the answering node's own disk, whether
        it leads or not. Check the lines with stele.verify.verify_export.
        """
        own = consistency == "snapshot"
        async with aclosing(export_lines(self._transport, self.path, from_seq, to_seq, own=own)) as lines:
            async for line in lines:
                yield line


def _unverified(note: str) -> SignedCheckpoint:
    try:
        checkpoint = parse_checkpoint_text(split_note(note)[0])
    except VerificationError as error:
        raise ServerFailed(f"the checkpoint cannot be read: {error}") from error
    return SignedCheckpoint(note, checkpoint.origin, checkpoint.size, checkpoint.root, verified=False)
