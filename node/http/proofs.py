"""Making proofs. The hashing is stele.format's, the trees are the store's; no checker shares code with it.

Everything in a proof is as of one seal. The state map is kept for the newest seal only, so all of it is
collected within one turn of the event loop, before anything is awaited.
"""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from msgspec import UNSET

from node import limits
from node.checkpoints import Demand
from node.http.problems import Problem
from node.http.proof_bodies import (
    BlockProof,
    DocumentProof,
    Entry,
    Place,
    PlacedLeaf,
    Seal,
    ShownErasure,
    ShownRevision,
    StateProof,
)
from node.http.services import Services
from storage.rows import Sealed
from storage.view import Revision, View

CATALOGUE_TABLE = "$tables"
CATALOGUE_ID = "$tables@0"


Proved = TypeVar("Proved")
_MakesEntry = Callable[[str, str, str], Entry]


class _Asks(Protocol):
    """The query of whatever shows a checkpoint."""

    @property
    def cosignatures(self) -> int: ...

    @property
    def witnesses(self) -> str: ...


def demand_of(services: Services, query: _Asks) -> Demand:
    """Whose cosignatures a request asks for. Raises Problem for a witness that this node does not ask."""
    names = frozenset(name for name in query.witnesses.split(",") if name)
    unknown = names - services.witnessing.names
    if unknown:
        raise Problem(
            "invalid-parameter",
            f"this node has no witness {', '.join(sorted(unknown))} cosign its checkpoints (witnesses_file)",
            field="witnesses",
        )
    return Demand(query.cosignatures, names)


def not_cosigned(demand: Demand, sealed: Sealed) -> Problem:
    return Problem(
        "not-cosigned",
        f"{demand} have not cosigned a checkpoint of {sealed.size} blocks or more",
        field="cosignatures",
    )


async def cosigned(
    services: Services, ledger: str, demand: Demand, make: Callable[[], Awaitable[tuple[Proved, Sealed]]]
) -> tuple[Proved, str]:
    """What `make` makes for its seal, and that seal's checkpoint with the cosignatures asked for.

    Replicas cosign the newest seal they have, so one that was soon followed by another may lack some for
    ever: then it is made again. Raises Problem not-cosigned, and what `make` raises.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limits.COSIGNATURES_TIMEOUT_S
    while True:
        made, sealed = await make()
        timeout_s = min(limits.PROOF_COSIGNATURES_TIMEOUT_S, until_s - loop.time())
        services.witnessing.wanted(demand.names)
        note = await services.signing.cosigned_seal(ledger, sealed, demand, max(timeout_s, 0.0))
        if note is not None:
            return made, note
        if loop.time() >= until_s:
            raise not_cosigned(demand, sealed)


class Prover:
    """Proves what a ledger held as of its newest seal. Use it at once: it is no good after an `await`.

    The proofs lack their checkpoint; see `cosigned`.
    """

    def __init__(self, services: Services, ledger: str, sealed: Sealed) -> None:
        self._store = services.store
        self._ledger = ledger
        self._journal = services.store.journal(ledger)
        self.size = sealed.size
        self.uncovered_seq: int | None = None
        """An erasure that the proofs made here lack, because it came after the seal."""
        self.view = services.store.view(ledger, sealed.size - 1)
        self._shared = services.shared_proofs.of(self._journal.ledger_id, sealed.size)

    def current(self, table: str, key: str) -> DocumentProof:
        """The newest revision under the key, or that there is none."""
        return self._proof(self._readable(self.view, table, key, self._newest), self._table(table))

    def version(self, view: View, table: str, key: str, version: int, *, dated: bool) -> DocumentProof:
        """One version, or that it is missing; `dated`: as far as the view has it, not as of the seal."""
        table_id = self._table_id(view, table)
        found = None if table_id is None else view.version(table, key, version)
        if table_id is None:
            entry = Entry()
        elif found is not None:
            entry = Entry(revision=self._revision(found))
        else:
            around = self._as_of(view, table_id, table, key) if dated else self._newest(table_id, table, key)
            entry = msgspec.structs.replace(around, revision=UNSET)
        return self._proof(entry, self._table_as_of(view, table) if dated else self._table(table))

    def as_of(self, view: View, table: str, key: str) -> DocumentProof:
        """What the view shows under the key, or that it shows nothing."""

        def entry(table_id: str, table: str, key: str) -> Entry:
            return self._as_of(view, table_id, table, key)

        return self._proof(self._readable(view, table, key, entry), self._table_as_of(view, table))

    def history(self, table: str, key: str, revisions: list[Revision]) -> DocumentProof:
        """These revisions, newest first: from the newest one on, or all of them older ones."""
        table_id = self._table_id(self.view, table)
        if table_id is None:
            return self._proof(Entry(), self._table(table))
        newest = self.view.history(table, key, None, 1)
        begins = not revisions or (bool(newest) and newest[0].version == revisions[0].version)
        shown: list[ShownRevision] = []
        erasure_seq: int | None = None
        for revision in revisions:
            # What one erasure block names mostly stands side by side: it is shown with the first of them.
            again = revision.erased_by == erasure_seq
            shown.append(self._revision(revision, with_erasure=not again))
            erasure_seq = erasure_seq if revision.erased_by is None else revision.erased_by
        entry = self._newest(table_id, table, key) if begins else Entry()
        older = shown[1:] if begins else shown
        return self._proof(msgspec.structs.replace(entry, older=older or UNSET), self._table(table))

    def block(self, seq: int) -> BlockProof:
        """That block `seq` stands in the journal."""
        return BlockProof("", self._path(seq))

    def _readable(self, view: View, table: str, key: str, entry: _MakesEntry) -> Entry:
        """The entry, when the view can read the table; of a table dropped or unknown nothing is shown."""
        if table == CATALOGUE_TABLE:
            return entry(CATALOGUE_ID, table, key)
        info = view.table(table)
        return entry(info.id, table, key) if info is not None and info.state == "active" else Entry()

    def _table_id(self, view: View, table: str) -> str | None:
        if table == CATALOGUE_TABLE:
            return CATALOGUE_ID
        info = view.table(table)
        return None if info is None else info.id

    def _table(self, table: str) -> Entry:
        """The newest entry of the catalogue; its place is not needed, for the state proof names it."""
        return self._shared.table(table) or self._shared.keep_table(table, self._table_entry(table))

    def _table_entry(self, table: str) -> Entry:
        found = self.view.get(CATALOGUE_TABLE, table)
        state = self._state(CATALOGUE_ID, table)
        if found is None:
            return Entry(state=state)
        return Entry(revision=self._revision(found, placed=False, with_data=True), state=state)

    def _table_as_of(self, view: View, table: str) -> Entry:
        return self._as_of(view, CATALOGUE_ID, CATALOGUE_TABLE, table, with_data=True)

    def _newest(self, table_id: str, table: str, key: str) -> Entry:
        """Works for dropped tables too."""
        found = self.view.history(table, key, None, 1)
        state = self._state(table_id, key)
        if not found:
            return Entry(state=state)
        return Entry(revision=self._revision(found[0], named=True), state=state)

    def _as_of(self, view: View, table_id: str, table: str, key: str, *, with_data: bool = False) -> Entry:
        shown = view.history(table, key, None, 1)
        revision = self._revision(shown[0], with_data=with_data) if shown else UNSET
        later = view.successor(table, key, self.size - 1)
        if later is None:
            return Entry(revision=revision, state=self._state(table_id, key))
        leaf = self._revision(later)
        if isinstance(leaf.place, Place):
            return Entry(revision=revision, successor=PlacedLeaf(leaf.leaf, leaf.place))
        raise TypeError("a revision that was not asked to lack its place has one")

    def _revision(
        self,
        revision: Revision,
        *,
        placed: bool = True,
        named: bool = False,
        with_data: bool = False,
        with_erasure: bool = True,
    ) -> ShownRevision:
        """`named`: a state proof beside it names the leaf. Its way through a block of many, for which all of
        the block has to be hashed, then adds nothing."""
        block = self._journal.block(revision.seq)
        place: Place | msgspec.UnsetType = UNSET
        if placed:
            place = Place(msgspec.Raw(block.header), self._path(revision.seq))
        if place is not UNSET and not named:
            _, leaf_path = self._journal.leaf_path(revision)
            place = msgspec.structs.replace(place, index=revision.leaf_index, leaf_path=_joined(leaf_path))
        data = msgspec.Raw(revision.payload) if with_data and revision.payload else UNSET
        leaf = msgspec.Raw(block.leaves[revision.leaf_index])
        if revision.erased_by is None:
            return ShownRevision(leaf, revision.salt.hex(), data, place)
        erasure = self._erasure(revision.erased_by) if with_erasure else UNSET
        return ShownRevision(leaf, place=place, erasure=erasure)

    def _erasure(self, seq: int) -> ShownErasure | msgspec.UnsetType:
        if seq >= self.size:
            self.uncovered_seq = seq
            return UNSET
        block = self._journal.block(seq)
        return ShownErasure(msgspec.Raw(block.header), msgspec.Raw(block.information), self._path(seq))

    def _state(self, table_id: str, key: str) -> StateProof:
        proof = self._store.state_proof(self._ledger, table_id, key)
        shown, empty = proof.shown_siblings()
        return StateProof(
            proof.bucket_depth, _text(proof.rows), _text(shown), _text(empty) if empty else UNSET
        )

    def _path(self, seq: int) -> str:
        return _joined(self._journal.inclusion(seq, self.size))

    def _proof(self, document: Entry, table: Entry) -> DocumentProof:
        seal = self._shared.seal
        if seal is None:
            last = self.size - 1
            seal = self._shared.seal = Seal(msgspec.Raw(self._journal.header(last)), self._path(last))
        return DocumentProof("", document, table, seal)


def _joined(hashes: list[bytes]) -> str:
    return _text(b"".join(hashes))


def _text(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()
