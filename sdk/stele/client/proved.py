"""Reads whose answers are proved: a document, its absence, its history, and receipts of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from stele.client.access import LedgerAccess
from stele.client.errors import Gone, NotFound, Rollback, ServerFailed, VerificationFailed
from stele.client.limits import PAGE_SIZE_MAX
from stele.client.memory import Remembered
from stele.client.models import Document, Revision, RevisionPage
from stele.client.transport import Answer, Request
from stele.client.trust import Guard
from stele.verify.checkpoint import Checkpoint
from stele.verify.document import found_in, verify_absence, verify_document
from stele.verify.entry import Fact, Moment
from stele.verify.errors import Incomplete, VerificationError
from stele.verify.proof import Proven

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Which document is asked for: now, or one version, or as of a moment."""

    table: str
    key: str
    version: int | None = None
    moment: Moment | None = None

    def __str__(self) -> str:
        return f"document {self.key!r} of table {self.table!r}"


@dataclass(frozen=True)
class Floor:
    """What an answer must not be older than: the newest checkpoint remembered, and one's own writes.

    Taken before the request leaves. Both None for a read that may be old (consistency "snapshot").
    """

    remembered: Remembered | None = None
    seq: int | None = None


class ProvedReads(LedgerAccess):
    """Asks for answers with their proofs and lets nothing else through."""

    async def floor(self, *, strong: bool, min_seq: int | None = None) -> Floor:
        """What the answer to a request that leaves now has to reach."""
        if not strong:
            return Floor(None, min_seq)
        written = self._written_seq
        seq = written if min_seq is None else min_seq if written is None else max(min_seq, written)
        return Floor((await self.guard()).newest(), seq)

    async def get_proved(self, path: str, query: dict[str, str], asked: Question, floor: Floor) -> Document:
        """A document, proved. Raises NotFound and Gone when that is proved, and VerificationFailed."""
        guard = await self.guard()
        try:
            answer = await self._call(Request("GET", path, query=query | guard.query()))
        except NotFound as error:
            await self.check_absence(error, asked, floor)
            raise
        members = answer.decode(dict[str, Any])
        document = _converted(members, Document)
        note = note_of(members.get("proof"))
        verifier = guard.verifier
        checkpoint = checked(
            f"the {asked} is not what the journal holds",
            note,
            lambda: (
                verify_document(
                    members, verifier, asked.table, asked.key, version=asked.version, moment=asked.moment
                ).checkpoint
            ),
        )
        await self.admit_covering(guard, note, checkpoint, floor)
        return document

    async def check_absence(self, error: NotFound, asked: Question, floor: Floor) -> None:
        """Return when the server proved that there is nothing; raise VerificationFailed otherwise."""
        guard = await self.guard()
        slug = "" if error.problem is None else error.problem.slug
        # No proof can be had of these two; a checkpoint seen earlier may show them false.
        if slug == "ledger-unknown":
            self._check_ledger_unknown(guard.newest())
            return
        if slug == "block-unknown":
            self._check_block_unknown(guard, asked, floor)
            return
        proof = None if error.problem is None else error.problem.proof
        if proof is None:
            raise VerificationFailed(f"the server says there is no {asked}, and does not prove it")
        note = note_of(proof)
        proven = checked(
            f"it is not proved that there is no {asked}",
            note,
            lambda: verify_absence(
                proof, guard.verifier, asked.table, asked.key, version=asked.version, moment=asked.moment
            ),
        )
        _check_said(error, slug, proven, asked, note)
        await self.admit_covering(guard, note, proven.checkpoint, floor)

    def _check_ledger_unknown(self, newest: Remembered | None) -> None:
        if newest is not None:
            raise Rollback(
                f"the server denies ledger {self.name!r}, which it has shown before", remembered=newest.note
            )

    def _check_block_unknown(self, guard: Guard, asked: Question, floor: Floor) -> None:
        """Only a block that the request named can be denied, and only one beyond all that are known."""
        named = None if asked.moment is None else asked.moment.seq
        seqs = [seq for seq in (named, floor.seq) if seq is not None]
        if not seqs:
            raise VerificationFailed(f"the server denies a block where {asked} was asked for")
        newest, written = guard.newest(), self._written_seq
        known = max(0 if newest is None else guard.size_of(newest), 0 if written is None else written + 1)
        if max(seqs) < known:
            raise Rollback(
                f"the server denies block {max(seqs)}, which it has shown or acknowledged before",
                remembered=None if newest is None else newest.note,
            )

    async def history_proved(
        self, path: str, asked: Question, limit: int | None
    ) -> AsyncGenerator[Revision, None]:
        """The revisions of a document, newest first; each page continues the one before without a gap."""
        floor = await self.floor(strong=True)
        guard = await self.guard()
        table_id: str | None = None
        last: Fact | None = None
        left = limit
        while left is None or left > 0:
            query = guard.query() | {"limit": str(min(left or PAGE_SIZE_MAX, PAGE_SIZE_MAX))}
            if last is not None:
                query["after"] = str(last.version)
            try:
                answer = await self._call(Request("GET", path, query=query))
            except NotFound as error:
                await self._check_no_history(error, asked, floor, last)
                raise
            page = answer.decode(RevisionPage)
            proof = with_contents(_proof_of(answer), answer)
            table_id, facts, checkpoint = self._page(guard, proof, asked, table_id, last)
            _check_page(page.revisions, facts, asked, note_of(proof))
            await self.admit_covering(guard, note_of(proof), checkpoint, floor)
            for revision in page.revisions:
                yield revision
            if not facts and last is not None:
                raise VerificationFailed(
                    f"the history of {asked} ends at version {last.version}, not at 0", seen=note_of(proof)
                )
            last = facts[-1] if facts else None
            if last is None or last.version == 0:
                return
            left = None if left is None else left - len(facts)

    def _page(
        self, guard: Guard, proof: dict[str, Any], asked: Question, table_id: str | None, last: Fact | None
    ) -> tuple[str | None, tuple[Fact, ...], Checkpoint]:
        def verify() -> tuple[str | None, tuple[Fact, ...], Checkpoint]:
            if last is not None and table_id is not None:
                checkpoint, older = guard.verifier.older(proof, table_id, asked.key, last)
                return table_id, older, checkpoint
            proven = guard.verifier.history(proof, asked.table, asked.key)
            newest = () if proven.revision is None else (proven.revision, *proven.older)
            return proven.table, newest, proven.checkpoint

        return checked(f"the history of {asked} is not what the journal holds", note_of(proof), verify)

    async def _check_no_history(
        self, error: NotFound, asked: Question, floor: Floor, last: Fact | None
    ) -> None:
        proof = None if error.problem is None else error.problem.proof
        if last is not None or proof is None:
            await self.check_absence(error, asked, floor)
            if last is not None:
                raise VerificationFailed(f"the server hides the rest of the history of {asked}")
            return
        guard = await self.guard()
        _, facts, checkpoint = self._page(guard, proof, asked, None, None)
        if facts or isinstance(error, Gone):
            raise VerificationFailed(f"the server hides the history of {asked}", seen=note_of(proof))
        await self.admit_covering(guard, note_of(proof), checkpoint, floor)

    async def admit_covering(self, guard: Guard, note: str, checkpoint: Checkpoint, floor: Floor) -> None:
        """Accept a checkpoint that was checked. Raises Rollback (it is below the floor) and SplitView."""
        if floor.seq is not None and checkpoint.size <= floor.seq:
            raise Rollback(
                f"the server answers from before block {floor.seq}, which it has acknowledged", seen=note
            )
        await guard.admit(note, checkpoint, floor.remembered)


def checked(what: str, note: str, verify: Callable[[], T]) -> T:
    """What `verify` returns; its errors become VerificationFailed."""
    try:
        return verify()
    except VerificationError as error:
        raise VerificationFailed(f"{what}: {error}", seen=note) from error


def note_of(proof: object) -> str:
    """The checkpoint's note in a proof. Raises VerificationFailed when there is none."""
    note = proof.get("checkpoint") if isinstance(proof, dict) else None
    if not isinstance(note, str):
        raise VerificationFailed("the server sent no proof")
    return note


def with_contents(proof: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The proof of a history with the documents that stand beside it in the answer."""
    listed = answer.decode(dict[str, Any]).get("revisions")
    document = proof.get("document")
    if not isinstance(listed, list) or not isinstance(document, dict):
        raise VerificationFailed("the server sent no proof")
    older = document.get("older", [])
    if not isinstance(older, list):
        raise VerificationFailed("the server sent no proof")
    shown = [document["revision"], *older] if "revision" in document else list(older)
    if len(shown) != len(listed):
        raise VerificationFailed(f"{len(listed)} revisions came with proofs of {len(shown)}")
    for revision, entry in zip(shown, listed, strict=True):
        if isinstance(revision, dict) and isinstance(entry, dict) and "data" in entry:
            revision["data"] = entry["data"]
    return proof


def _proof_of(answer: Answer) -> dict[str, Any]:
    proof = answer.decode(dict[str, Any]).get("proof")
    if not isinstance(proof, dict):
        raise VerificationFailed("the server sent no proof")
    return proof


def _check_page(revisions: list[Revision], facts: tuple[Fact, ...], asked: Question, note: str) -> None:
    """What is handed on must be what was proved. Times are compared as moments."""
    same = len(revisions) == len(facts) and all(
        (shown.version, shown.seq, shown.tx, shown.op, shown.data, shown.erased)
        == (fact.version, fact.seq, fact.tx, fact.op, fact.data, fact.erased_by)
        and shown.at.isoformat(timespec="microseconds").replace("+00:00", "Z") == fact.at
        for shown, fact in zip(revisions, facts, strict=True)
    )
    if not same:
        raise VerificationFailed(f"the history of {asked} is not the one that was proved")
    checked(f"the history of {asked} is not whole", note, lambda: check_shown(facts))


def check_shown(facts: Iterable[Fact]) -> None:
    """Raise Incomplete for a revision without its content that no erasure block is shown to have erased."""
    for fact in facts:
        if fact.op == "put" and not fact.opened and fact.erased_by is None:
            raise Incomplete(f"the content of version {fact.version} is withheld")


def _check_said(error: NotFound, slug: str, proven: Proven, asked: Question, note: str) -> None:
    """That an answer without a document says why there is none as the proof does: it was never there, it was
    deleted or its table dropped, or it was erased."""
    found = found_in(proven)
    said = "erased" if slug == "erased" else "gone" if isinstance(error, Gone) else "missing"
    # A version that a dropped table never had is missing all the same.
    never = asked.version is not None and proven.revision is None
    if said != ("missing" if never else found):
        raise VerificationFailed(f"the server says that the {asked} is {said}, but it is {found}", seen=note)


def _converted(members: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise ServerFailed(f"the answer is not what this client expects: {error}") from error
