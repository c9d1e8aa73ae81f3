"""Documents: put, post, get, delete, list, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from node import limits
from node.http import schemas
from node.http.answers import (
    Response,
    WholeAnswer,
    answer,
    document_body,
    encode,
    listed_document,
    listed_revision,
)
from node.http.bodies import parse_document, read_body
from node.http.failures import problem_of
from node.http.parameters import NUMBER_MAX, Cosignatures, Limit, ReadQuery, Version, ViewQuery, Witnesses
from node.http.preconditions import idempotency_key, matches_copy, request_digest
from node.http.problems import Problem
from node.http.proof_bodies import DocumentProof
from node.http.proofs import Proved, Prover, cosigned, demand_of
from node.http.route import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_NONE_MATCH_ETAG,
    JSON,
    Answer,
    Call,
    Content,
    Route,
)
from node.http.services import Services
from node.http.views import proved_view_for, typed_query, view_for
from node.http.writes import write_document
from storage.commands import Operation
from storage.errors import TableDropped, TableUnknown
from storage.rows import Sealed
from storage.view import Revision, View

_DOCUMENTS = "/v1/ledgers/{ledger}/tables/{table}/documents"
_DOCUMENT = _DOCUMENTS + "/{key}"


Proof = Annotated[bool, Meta(description="Add a proof against a signed checkpoint.")]


class DocumentQuery(ViewQuery, kw_only=True, frozen=True):
    version: Version | UnsetType = UNSET
    proof: Proof = False
    cosignatures: Cosignatures = 0
    witnesses: Witnesses = ""


class ListQuery(ViewQuery, kw_only=True, frozen=True):
    prefix: Annotated[str, Meta(max_length=512, description="Only keys that begin with this.")] = ""
    after: Annotated[
        str, Meta(max_length=512, description="Only keys after this one; `next` of the last page.")
    ] = ""
    limit: Limit = limits.PAGE_LIMIT_DEFAULT


class HistoryQuery(ReadQuery, kw_only=True, frozen=True):
    proof: Proof = False
    cosignatures: Cosignatures = 0
    witnesses: Witnesses = ""
    after: Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="`next` of the last page.")] | UnsetType = (
        UNSET
    )
    limit: Limit = limits.PAGE_LIMIT_DEFAULT


async def put_document(services: Services, call: Call) -> WholeAnswer:
    _, table, key = call.names
    payload = parse_document(await read_body(call, services.budget, limits.DOCUMENT_SIZE_BYTES_MAX))
    operation = Operation("put", table, key, payload, services.stamps.salt())
    response = await write_document(services, call, table, key, operation, payload)
    response.headers["Location"] = call.raw_path.partition("?")[0]
    return response


async def post_document(services: Services, call: Call) -> WholeAnswer:
    ledger, table = call.names
    payload = parse_document(await read_body(call, services.budget, limits.DOCUMENT_SIZE_BYTES_MAX))
    key = _generated_key(services, call)
    operation = Operation("put", table, key, payload, services.stamps.salt())
    response = await write_document(services, call, table, key, operation, payload)
    response.headers["Location"] = f"/v1/ledgers/{ledger}/tables/{table}/documents/{quote(key, safe='')}"
    return response


def _generated_key(services: Services, call: Call) -> str:
    """A key nobody chose: time-ordered and random, or, with an Idempotency-Key, always the same one.

    The first answer to a repeated request does not hold the key, so it must follow from the request; from
    its Idempotency-Key alone, because a digest of the document would outlive the document's erasure.
    """
    repeat_key = idempotency_key(call)
    if repeat_key is not None:
        return request_digest(call, repeat_key.encode()).hex()[:32]
    stamps = services.stamps
    return stamps.transaction_id(stamps.now_us()).hex()


async def delete_document(services: Services, call: Call) -> WholeAnswer:
    _, table, key = call.names
    operation = Operation("delete", table, key, b"", services.stamps.salt())
    return await write_document(services, call, table, key, operation, b"")


async def get_document(services: Services, call: Call) -> Response:
    ledger, table, key = call.names
    query = typed_query(call, DocumentQuery)
    if query.proof:
        return await _get_proved(services, call, query)
    view = await view_for(services, ledger, query)
    revision = _shown(view, table, key, query)
    if matches_copy(call, revision.version):
        return web.Response(status=304, headers={"ETag": f'"{revision.version}"'})
    return answer(document_body(revision), etag=revision.version)


async def _get_proved(services: Services, call: Call, query: DocumentQuery) -> WholeAnswer:
    """The document with its proof, or the problem with the proof that there is none."""
    ledger, table, key = call.names
    dated = query.as_of is not UNSET or query.as_of_seq is not UNSET

    def prove(prover: Prover, view: View) -> tuple[DocumentProof, Revision | Problem]:
        if query.version is not UNSET:
            proof = prover.version(view, table, key, query.version, dated=dated)
        elif dated:
            proof = prover.as_of(view, table, key)
        else:
            proof = prover.current(table, key)
        try:
            return proof, _shown(view, table, key, query)
        except (Problem, TableUnknown, TableDropped) as error:
            return proof, _problem(error)

    (proof, shown), note = await _cosigned(services, ledger, query, prove)
    encoded = encode(msgspec.structs.replace(proof, checkpoint=note))
    if isinstance(shown, Problem):
        raise shown.with_proof(encoded)
    return answer(document_body(shown, encoded), etag=shown.version)


async def _cosigned(
    services: Services,
    ledger: str,
    query: DocumentQuery | HistoryQuery,
    prove: Callable[[Prover, View], Proved],
) -> tuple[Proved, str]:
    """What `prove` makes of a view, and the checkpoint of a seal that covers it and the erasures shown."""

    async def make() -> tuple[Proved, Sealed]:
        while True:
            view, sealed = await proved_view_for(services, ledger, query)
            prover = Prover(services, ledger, sealed)
            proved = prove(prover, view)
            if prover.uncovered_seq is None:
                return proved, sealed
            await services.sealing.covering(ledger, prover.uncovered_seq)

    return await cosigned(services, ledger, demand_of(services, query), make)


def _problem(error: Exception) -> Problem:
    problem = problem_of(error)
    if problem is None:
        raise error
    return problem


def _shown(view: View, table: str, key: str, query: DocumentQuery) -> Revision:
    """The revision that a read asks for. Raises Problem, TableUnknown or TableDropped."""
    wanted = query.version
    revision = view.get(table, key) if wanted is UNSET else view.version(table, key, wanted)
    if revision is None:
        what = f"document {key!r}" if wanted is UNSET else f"version {wanted} of document {key!r}"
        raise Problem("not-found", f"there is no {what} in table {table!r}")
    if revision.op == "delete":
        raise Problem(
            "gone",
            f"document {key!r} was deleted in block {revision.seq}; its history stays readable",
            current_version=revision.version,
        )
    if revision.erased_by is not None:
        raise Problem(
            "erased",
            f"the content of version {revision.version} of document {key!r} was erased by block "
            f"{revision.erased_by}; what proves it stays",
            current_version=revision.version,
            erasure=revision.erased_by,
        )
    return revision


async def list_documents(services: Services, call: Call) -> WholeAnswer:
    ledger, table = call.names
    query = typed_query(call, ListQuery)
    view = await view_for(services, ledger, query)
    # One more than the page tells whether there is a next one.
    found = view.scan(table, query.prefix, query.after, query.limit + 1)
    shown = _within_page(found[: query.limit])
    parts = [
        b'{"documents":[',
        b",".join([listed_document(revision) for revision in shown]),
        b'],"seq":%d' % view.seq,
    ]
    if len(shown) < len(found):
        parts.append(b',"next":' + encode(shown[-1].key))
    parts.append(b"}")
    return answer(b"".join(parts))


async def get_history(services: Services, call: Call) -> WholeAnswer:
    ledger, table, key = call.names
    query = typed_query(call, HistoryQuery)
    if query.proof:
        return await _prove_history(services, call, query)
    view = await view_for(services, ledger, query)
    return _history_answer(_history_page(view, table, key, query), None)


async def _prove_history(services: Services, call: Call, query: HistoryQuery) -> WholeAnswer:
    ledger, table, key = call.names

    def prove(prover: Prover, view: View) -> tuple[DocumentProof, list[Revision] | Problem]:
        try:
            shown = _history_page(view, table, key, query)
        except (Problem, TableUnknown) as error:
            return prover.history(table, key, []), _problem(error)
        return prover.history(table, key, shown), shown

    (proof, shown), note = await _cosigned(services, ledger, query, prove)
    encoded = encode(msgspec.structs.replace(proof, checkpoint=note))
    if isinstance(shown, Problem):
        raise shown.with_proof(encoded)
    return _history_answer(shown, encoded)


def _history_page(view: View, table: str, key: str, query: HistoryQuery) -> list[Revision]:
    before = None if query.after is UNSET else query.after
    found = view.history(table, key, before, query.limit)
    if not found and before is None:
        raise Problem("not-found", f"there is no document {key!r} in table {table!r}")
    return _within_page(found)


def _history_answer(shown: list[Revision], proof: bytes | None) -> WholeAnswer:
    parts = [b'{"revisions":[', b",".join([listed_revision(revision) for revision in shown]), b"]"]
    if shown and shown[-1].version > 0:
        parts.append(b',"next":"%d"' % shown[-1].version)
    if proof is not None:
        parts.append(b',"proof":' + proof)
    parts.append(b"}")
    return answer(b"".join(parts))


def _within_page(revisions: list[Revision]) -> list[Revision]:
    """As many as a page may hold by size, at least one."""
    size_bytes = 0
    for count, revision in enumerate(revisions):
        size_bytes += len(revision.payload)
        if size_bytes > limits.PAGE_SIZE_BYTES_MAX and count:
            return revisions[:count]
    return revisions


_BODY = Content(JSON, schema=schemas.DOCUMENT_SCHEMA, description="The document.")
_WRITE_PROBLEMS = (
    "ledger-unknown",
    "table-unknown",
    "table-dropped",
    "version-mismatch",
    "bad-precondition",
    "invalid-header",
    "idempotency-key-reused",
)
_READ_PROBLEMS = (
    "ledger-unknown",
    "table-unknown",
    "table-dropped",
    "not-found",
    "block-unknown",
    "not-caught-up",
)
_ETAG = {"ETag": "The version, in quotes."}

ROUTES = (
    Route(
        "PUT",
        _DOCUMENT,
        put_document,
        operation_id="putDocument",
        summary="Write a document: a new revision under its key",
        tag="documents",
        leader="always",
        headers=(IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY),
        body=_BODY,
        answers={
            200: Answer("A further revision is committed.", Content(JSON, schemas.Written), _ETAG),
            201: Answer("The first revision is committed.", Content(JSON, schemas.Written), _ETAG),
        },
        problems=_WRITE_PROBLEMS,
    ),
    Route(
        "GET",
        _DOCUMENT,
        get_document,
        operation_id="getDocument",
        summary="Read a document: now, as of a block or time, or one version of it",
        tag="documents",
        query=DocumentQuery,
        headers=(IF_NONE_MATCH_ETAG,),
        answers={
            200: Answer("The document.", Content(JSON, schemas.DocumentAnswer), _ETAG),
            304: Answer("The reader's copy is current.", None, _ETAG),
        },
        problems=(*_READ_PROBLEMS, "gone", "erased", "not-sealed", "not-cosigned"),
    ),
    Route(
        "DELETE",
        _DOCUMENT,
        delete_document,
        operation_id="deleteDocument",
        summary="Delete a document: a new revision without data, history stays",
        tag="documents",
        leader="always",
        headers=(IF_MATCH, IDEMPOTENCY_KEY),
        answers={200: Answer("The delete is committed.", Content(JSON, schemas.Written), _ETAG)},
        problems=(*_WRITE_PROBLEMS, "not-found", "gone"),
    ),
    Route(
        "POST",
        _DOCUMENTS,
        post_document,
        operation_id="postDocument",
        summary="Write a document under a generated key",
        tag="documents",
        leader="always",
        headers=(IDEMPOTENCY_KEY,),
        body=_BODY,
        answers={201: Answer("The document is committed.", Content(JSON, schemas.Written), _ETAG)},
        problems=_WRITE_PROBLEMS,
    ),
    Route(
        "GET",
        _DOCUMENTS,
        list_documents,
        operation_id="listDocuments",
        summary="List the documents of a table in key order",
        tag="documents",
        query=ListQuery,
        answers={200: Answer("A page; pass `next` as `after`.", Content(JSON, schemas.Documents))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "GET",
        _DOCUMENT + "/history",
        get_history,
        operation_id="getHistory",
        summary="Every revision of a document, newest first",
        tag="documents",
        query=HistoryQuery,
        answers={200: Answer("A page; pass `next` as `after`.", Content(JSON, schemas.Revisions))},
        problems=(*_READ_PROBLEMS, "not-sealed", "not-cosigned"),
    ),
)
