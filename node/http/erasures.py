"""Erasure: payload and salt of revisions removed for good, with a block that says so."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import UNSET

from node import limits
from node.http import erasure_schemas
from node.http.answers import WholeAnswer, answer_struct
from node.http.bodies import parse_struct, read_body
from node.http.failures import refusal
from node.http.journal import journal_with
from node.http.preconditions import idempotency_key, request_digest
from node.http.problems import Problem
from node.http.route import IDEMPOTENCY_KEY, JSON, Answer, Call, Content, Route
from node.http.services import ANONYMOUS, Services
from node.http.writes import REPLAYED
from stele.format.block import parse_header
from stele.format.errors import InvalidName
from stele.format.names import check_document_key
from stele.format.times import format_time
from storage.commands import Erase
from storage.errors import LedgerUnknown
from storage.outcomes import Committed, Refused

_ERASURES = "/v1/ledgers/{ledger}/erasures"
_ERASURE = _ERASURES + "/{seq}"
_decode_replica = msgspec.json.Decoder(erasure_schemas.ErasureReplica).decode


async def post_erasure(services: Services, call: Call) -> WholeAnswer:
    (ledger,) = call.names
    if not services.config.allow_erasure:
        raise Problem("erasure-not-allowed", "the setting allow_erasure is off on the leader")
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    wanted, canonical = parse_struct(body, erasure_schemas.ErasureBody, limits.SETTINGS_SIZE_BYTES_MAX)
    try:
        check_document_key(wanted.key)
    except InvalidName as error:
        raise Problem("invalid-name", str(error), field="key") from error
    repeat_key = idempotency_key(call)
    stamps = services.stamps
    at = stamps.now_us()
    outcome = await services.committer.submit(
        Erase(
            ledger=ledger,
            table=wanted.table,
            key=wanted.key,
            versions=None if isinstance(wanted.versions, str) else tuple(wanted.versions),
            reason=wanted.reason,
            tx=stamps.transaction_id(at),
            at=at,
            by=ANONYMOUS,
            idempotency_key=repeat_key,
            request_digest=b"" if repeat_key is None else request_digest(call, canonical),
        )
    )
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    if not isinstance(outcome, Committed):
        raise TypeError(f"an erasure cannot have the outcome {type(outcome).__name__}")
    response = answer_struct(await _described(services, ledger, outcome.seq), status=202)
    response.headers["Location"] = _ERASURE.format(ledger=ledger, seq=outcome.seq)
    if outcome.repeated:
        response.headers[REPLAYED] = "true"
    return response


async def get_erasure(services: Services, call: Call) -> WholeAnswer:
    ledger, text = call.names
    await journal_with(services, ledger, int(text) + 1)
    return answer_struct(await _described(services, ledger, int(text)))


async def get_erasure_replica(services: Services, call: Call) -> WholeAnswer:
    ledger, text = call.names
    return answer_struct(_own(services, ledger, int(text)))


async def _described(services: Services, ledger: str, seq: int) -> erasure_schemas.ErasureAnswer:
    found = services.store.erasure(ledger, seq)
    if found is None:
        raise Problem("not-found", f"block {seq} of ledger {ledger!r} is no erasure")
    replicas = await asyncio.gather(
        *(_replica(services, member.id, ledger, seq) for member in services.replica.membership.members)
    )
    header = parse_header(found.block.header)
    return erasure_schemas.ErasureAnswer(
        ledger=ledger,
        table=found.erasure.table,
        key=found.erasure.key,
        versions=list(found.erasure.versions),
        reason=found.erasure.reason,
        seq=seq,
        tx=header.tx,
        at=header.at,
        complete=all(replica.complete for replica in replicas),
        replicas=replicas,
    )


async def _replica(services: Services, node_id: str, ledger: str, seq: int) -> erasure_schemas.ErasureReplica:
    """How far a node is; only it knows."""
    if node_id == services.config.node_id:
        return _own(services, ledger, seq)
    path = _ERASURE.format(ledger=ledger, seq=seq) + "/replica"
    body = await services.forwarder.get(node_id, path, limits.ERASURE_ASK_TIMEOUT_S)
    if body is not None:
        try:
            return _decode_replica(body)
        except msgspec.MsgspecError:
            pass  # Not a node of this version: as good as no answer.
    return erasure_schemas.ErasureReplica(id=node_id, complete=False, waiting_for="answer")


def _own(services: Services, ledger: str, seq: int) -> erasure_schemas.ErasureReplica:
    """How far this node is. Never asks another one. Raises Problem, LedgerUnknown."""
    node_id = services.config.node_id
    info = services.store.ledger(ledger)
    if info is None:
        raise LedgerUnknown(ledger)
    if info.size <= seq:
        return erasure_schemas.ErasureReplica(id=node_id, complete=False, waiting_for="block")
    found = services.store.erasure(ledger, seq)
    if found is None:
        raise Problem("not-found", f"block {seq} of ledger {ledger!r} is no erasure")
    if found.completed_at:
        return erasure_schemas.ErasureReplica(
            id=node_id, complete=True, completed_at=format_time(found.completed_at), waiting_for=UNSET
        )
    waiting_for = services.erasing.waiting_for(found.raft_index)
    return erasure_schemas.ErasureReplica(id=node_id, complete=False, waiting_for=waiting_for)


ROUTES = (
    Route(
        "POST",
        _ERASURES,
        post_erasure,
        operation_id="eraseRevisions",
        summary="Erase the content of revisions of a document, for good",
        description=(
            "Readers get 410 from then on. What proves the revisions stays valid. Each replica clears its "
            "log and its files in the background; the answer of GET says when all have."
        ),
        tag="erasure",
        leader="always",
        headers=(IDEMPOTENCY_KEY,),
        body=Content(JSON, erasure_schemas.ErasureBody),
        answers={
            202: Answer(
                "The erasure is committed.",
                Content(JSON, erasure_schemas.ErasureAnswer),
                {"Location": "Where to see when it is complete."},
            )
        },
        problems=(
            "erasure-not-allowed",
            "ledger-unknown",
            "table-unknown",
            "not-found",
            "already-erased",
            "erasure-too-large",
            "idempotency-key-reused",
            "invalid-header",
        ),
    ),
    Route(
        "GET",
        _ERASURE,
        get_erasure,
        operation_id="getErasure",
        summary="An erasure, and how far each replica is with it",
        tag="erasure",
        answers={200: Answer("The erasure.", Content(JSON, erasure_schemas.ErasureAnswer))},
        problems=("ledger-unknown", "block-unknown", "not-found"),
    ),
    Route(
        "GET",
        _ERASURE + "/replica",
        get_erasure_replica,
        operation_id="getErasureReplica",
        summary="How far the answering node is with an erasure",
        tag="erasure",
        answers={200: Answer("Its state.", Content(JSON, erasure_schemas.ErasureReplica))},
        problems=("ledger-unknown", "not-found"),
    ),
)
