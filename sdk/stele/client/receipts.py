"""Receipts: proofs to keep and to hand on, made from what a server answers and checked before use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stele.client.errors import Invalid, NotFound, VerificationFailed
from stele.client.limits import PAGE_SIZE_MAX
from stele.client.proved import (
    Floor,
    ProvedReads,
    Question,
    check_shown,
    checked,
    note_of,
    with_contents,
)
from stele.client.times import moment_of
from stele.client.transport import Answer, Request
from stele.verify.document import with_data
from stele.verify.receipt import ReceiptReport, verify_receipt


class Receipts(ProvedReads):
    """Asking for receipts."""

    async def receipt(
        self,
        table: str,
        key: str,
        *,
        version: int | None = None,
        as_of_seq: int | None = None,
        as_of: datetime | str | None = None,
        history: bool = False,
    ) -> bytes:
        """A receipt of the current document (or of its absence), of one version, of what stood at a block
        or time, or of the complete history, as JSON text.

        Of an erased document it shows the revision without content, and the block that erased it.

        It was checked, and holds for everyone with the same trust policy. Raises NotFound for a version that
        does not exist, Invalid for a history of more than 1,000 revisions, VerificationFailed.
        """
        moment = moment_of(as_of_seq, as_of)
        if sum([version is not None, moment is not None, history]) > 1:
            raise Invalid("version, as_of_seq, as_of and history exclude each other")
        path = self._document_path(table, key)
        members: dict[str, Any] = {"table": table, "key": key}
        query: dict[str, str] = {}
        kind = "current"
        if history:
            kind, path, query = "history", path + "/history", {"limit": str(PAGE_SIZE_MAX)}
        elif version is not None:
            kind, query = "revision", {"version": str(version)}
            members["version"] = version
        elif moment is not None:
            kind = "as-of"
            name, value = ("as_of_seq", moment.seq) if moment.at is None else ("as_of", moment.at)
            query = {name: str(value)}
            members[name] = value
        floor = await self.floor(strong=True)
        found, proof = await self._proof(path, query, Question(table, key, version, moment), floor)
        if kind == "current" and not found:
            kind = "absence"
        text, _ = await self._checked_receipt(kind, members, proof, floor)
        return text

    async def block_receipt(self, seq: int) -> bytes:
        """A receipt of a block with all its revisions, as JSON text. Raises NotFound, VerificationFailed."""
        guard = await self.guard()
        floor = Floor(guard.newest())
        answer = await self._call(Request("GET", f"{self.path}/blocks/{seq}", query=guard.query()))
        block = answer.decode(dict[str, Any])
        proof = block.pop("proof", None)
        text, report = await self._checked_receipt("block", {"block": block}, proof, floor)
        if report.block is None or report.block.header.seq != seq:
            raise VerificationFailed(f"the server shows another block than {seq}", seen=report.note)
        return text

    async def _proof(
        self, path: str, query: dict[str, str], asked: Question, floor: Floor
    ) -> tuple[bool, dict[str, Any]]:
        """Whether there is something to show, and the proof with its content."""
        guard = await self.guard()
        try:
            answer = await self._call(Request("GET", path, query=query | guard.query()))
        except NotFound as error:
            proof = None if error.problem is None else error.problem.proof
            erased = error.problem is not None and error.problem.slug == "erased"
            if proof is None or (asked.version is not None and not erased):
                await self.check_absence(error, asked, floor)
                raise
            return erased, proof
        members = answer.decode(dict[str, Any])
        if "revisions" in members:
            return True, _history_proof(members, answer)
        proof = members.get("proof")
        if not isinstance(proof, dict):
            raise VerificationFailed("the server sent no proof")
        return True, checked("the answer", note_of(proof), lambda: with_data(proof, members.get("data")))

    async def _checked_receipt(
        self, kind: str, members: dict[str, Any], proof: object, floor: Floor
    ) -> tuple[bytes, ReceiptReport]:
        guard = await self.guard()
        head = {"receipt": 1, "kind": kind, "ledger": guard.origin, "ledger_id": guard.ledger_id}
        text = msgspec.json.format(msgspec.json.encode({**head, **members, "proof": proof}), indent=1)
        note = note_of(proof)

        def verify() -> ReceiptReport:
            report = verify_receipt(text, guard.policy)
            # Whoever holds a receipt may leave contents out. The server from which it comes may not.
            if report.proven is not None and report.proven.revision is not None:
                check_shown((report.proven.revision, *report.proven.older))
            return report

        report = checked("the receipt does not hold", note, verify)
        await self.admit_covering(guard, note, report.checkpoint, floor)
        return text + b"\n", report


def _history_proof(members: dict[str, Any], answer: Answer) -> dict[str, Any]:
    if "next" in members:
        raise Invalid(f"a receipt holds at most {PAGE_SIZE_MAX} revisions of a document")
    proof = members.get("proof")
    if not isinstance(proof, dict):
        raise VerificationFailed("the server sent no proof")
    return with_contents(proof, answer)
