"""Proofs by themselves: that a block is in a tree, that a tree continues another, and what is current."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from node.http import schemas
from node.http.answers import WholeAnswer, answer, answer_struct, encode
from node.http.journal import journal_with
from node.http.parameters import NUMBER_MAX, Cosignatures, Query, Seq, Witnesses
from node.http.problems import Problem
from node.http.proof_bodies import DocumentProof
from node.http.proofs import Prover, cosigned, demand_of
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import Services
from node.http.views import typed_query
from stele.format.errors import InvalidName
from stele.format.names import check_document_key
from storage.errors import BlockUnknown
from storage.rows import Sealed

_PROOFS = "/v1/ledgers/{ledger}/proofs"


class InclusionQuery(Query, kw_only=True, frozen=True):
    seq: Seq
    size: (
        Annotated[int, Meta(ge=1, le=NUMBER_MAX, description="Size of the tree; by default the present one.")]
        | UnsetType
    ) = UNSET


class ConsistencyQuery(Query, kw_only=True, frozen=True, rename={"old": "from", "new": "to"}):
    old: Annotated[int, Meta(ge=1, le=NUMBER_MAX, description="The smaller size.")]
    new: (
        Annotated[int, Meta(ge=1, le=NUMBER_MAX, description="The larger size; by default the present one.")]
        | UnsetType
    ) = UNSET


class StateQuery(Query, kw_only=True, frozen=True):
    table: schemas.Name
    key: schemas.Key
    cosignatures: Cosignatures = 0
    witnesses: Witnesses = ""


async def get_inclusion(services: Services, call: Call) -> WholeAnswer:
    query = typed_query(call, InclusionQuery)
    journal = await journal_with(services, call.names[0], None if query.size is UNSET else query.size)
    size = journal.size if query.size is UNSET else query.size
    return answer_struct(
        schemas.Inclusion(
            seq=query.seq,
            size=size,
            path=[node.hex() for node in journal.inclusion(query.seq, size)],
            leaf_hash=journal.leaf_hash(query.seq).hex(),
        )
    )


async def get_consistency(services: Services, call: Call) -> WholeAnswer:
    query = typed_query(call, ConsistencyQuery)
    journal = await journal_with(services, call.names[0], None if query.new is UNSET else query.new)
    new = journal.size if query.new is UNSET else query.new
    if query.old > new:
        raise BlockUnknown(query.old - 1, new)
    path = journal.consistency(query.old, new)
    return answer_struct(
        schemas.Consistency(from_size=query.old, to_size=new, path=[node.hex() for node in path])
    )


async def get_state_proof(services: Services, call: Call) -> WholeAnswer:
    """What the state map says of a key, as of the newest seal: its newest revision, or that it has none."""
    (ledger,) = call.names
    query = typed_query(call, StateQuery)
    try:
        check_document_key(query.key)
    except InvalidName as error:
        raise Problem("invalid-parameter", str(error), field="key") from error
    await services.reads.strong()
    size = services.store.journal(ledger).size

    async def make() -> tuple[DocumentProof, Sealed]:
        sealed = await services.sealing.covering(ledger, size - 1)
        return Prover(services, ledger, sealed).current(query.table, query.key), sealed

    proof, note = await cosigned(services, ledger, demand_of(services, query), make)
    encoded = encode(msgspec.structs.replace(proof, checkpoint=note))
    names = encode(query.table), encode(query.key)
    return answer(b'{"table":%b,"key":%b,"proof":%b}' % (*names, encoded))


_READ_PROBLEMS = ("ledger-unknown", "block-unknown")

ROUTES = (
    Route(
        "GET",
        _PROOFS + "/inclusion",
        get_inclusion,
        operation_id="getInclusionProof",
        summary="Proof that a block is in the tree of a size (RFC 6962)",
        tag="journal",
        query=InclusionQuery,
        answers={200: Answer("The path, from the leaf up.", Content(JSON, schemas.Inclusion))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "GET",
        _PROOFS + "/consistency",
        get_consistency,
        operation_id="getConsistencyProof",
        summary="Proof that one tree is the beginning of another (RFC 6962)",
        tag="journal",
        query=ConsistencyQuery,
        answers={200: Answer("The path.", Content(JSON, schemas.Consistency))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "GET",
        _PROOFS + "/state",
        get_state_proof,
        operation_id="getStateProof",
        summary="Proof of what is current under a key, or that nothing is",
        description="The proof that GET document with proof=true has, also when there is no such document or "
        "it was deleted.",
        tag="journal",
        query=StateQuery,
        answers={200: Answer("The proof, as of a seal.", Content(JSON, schemas.ProvedState))},
        problems=("ledger-unknown", "not-sealed", "not-cosigned"),
    ),
)
