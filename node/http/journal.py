"""The journal: blocks, checkpoint, proofs, export.

Blocks never change, so any node that has one serves it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from node import limits
from node.checkpoints import NO_DEMAND
from node.http import schemas
from node.http.answers import Response, WholeAnswer, answer, answer_struct, begin_stream, encode
from node.http.parameters import NUMBER_MAX, Cosignatures, Query, ReadQuery, Size, Witnesses
from node.http.problems import Problem
from node.http.proof_bodies import BlockProof
from node.http.proofs import Prover, cosigned, demand_of, not_cosigned
from node.http.route import JSON, NDJSON, TEXT, Answer, Call, Content, Route
from node.http.services import Services
from node.http.views import fresh, typed_query
from storage.errors import BlockUnknown, LedgerUnknown, NotSealed
from storage.journal import Journal
from storage.rows import RevisionRow, Sealed
from storage.store import LedgerInfo

_LEDGER = "/v1/ledgers/{ledger}"


class BlockQuery(Query, kw_only=True, frozen=True):
    proof: Annotated[bool, Meta(description="Add a proof against a signed checkpoint.")] = False
    cosignatures: Cosignatures = 0
    witnesses: Witnesses = ""


class BlocksQuery(Query, kw_only=True, frozen=True, rename={"start": "from"}):
    start: Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="First block of the page.")] = 0
    limit: Annotated[int, Meta(ge=1, le=limits.BLOCKS_LIMIT_MAX)] = limits.PAGE_LIMIT_DEFAULT


class CheckpointQuery(Query, kw_only=True, frozen=True):
    cosignatures: Cosignatures = 0
    witnesses: Witnesses = ""


class CheckpointsQuery(Query, kw_only=True, frozen=True):
    size: (
        Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Only the checkpoint of this size.")] | UnsetType
    ) = UNSET
    from_size: Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="Smallest size of the page.")] = 0
    limit: Annotated[int, Meta(ge=1, le=limits.CHECKPOINTS_LIMIT_MAX)] = limits.PAGE_LIMIT_DEFAULT


class ExportQuery(ReadQuery, kw_only=True, frozen=True, rename={"start": "from", "end": "to"}):
    start: Annotated[int, Meta(ge=0, le=NUMBER_MAX, description="First block.")] = 0
    end: Size | UnsetType = UNSET
    """Exclusive."""


async def journal_with(services: Services, ledger: str, size: int | None) -> Journal:
    """The journal with at least `size` blocks: this node's own when it has them, else the leader's.

    Raises NotLeader, whereupon the request is passed on.
    """
    info = services.store.ledger(ledger)
    if size is None or info is None or info.size < size:
        await services.reads.strong()
    journal = services.store.journal(ledger)
    if size is not None and journal.size < size:
        raise BlockUnknown(size - 1, journal.size)
    return journal


def _revision_body(leaf: bytes, row: RevisionRow) -> bytes:
    if row.erased_by is not None:
        return b'{"leaf":%b,"erased":%d}' % (leaf, row.erased_by)
    data = b',"data":' + row.payload if row.payload else b""
    return b'{"leaf":%b,"salt":"%b"%b}' % (leaf, row.salt.hex().encode(), data)


def block_body(journal: Journal, seq: int) -> bytes:
    """A block as it is served and exported, from its stored bytes."""
    block = journal.block(seq)
    revisions = [_revision_body(leaf, row) for leaf, row in journal.revisions(block)]
    return b'{"header":%b,"info":%b,"revisions":[%b]}' % (
        block.header,
        block.information,
        b",".join(revisions),
    )


async def get_block(services: Services, call: Call) -> WholeAnswer:
    ledger, text = call.names
    seq = int(text)
    journal = await journal_with(services, ledger, seq + 1)
    body = block_body(journal, seq)
    query = typed_query(call, BlockQuery)
    if query.proof:

        async def make() -> tuple[BlockProof, Sealed]:
            sealed = await services.sealing.covering(ledger, seq)
            return Prover(services, ledger, sealed).block(seq), sealed

        proof, note = await cosigned(services, ledger, demand_of(services, query), make)
        encoded = encode(msgspec.structs.replace(proof, checkpoint=note))
        body = body[:-1] + b',"proof":' + encoded + b"}"
    return answer(body)


async def list_blocks(services: Services, call: Call) -> WholeAnswer:
    query = typed_query(call, BlocksQuery)
    end = query.start + query.limit
    ledger = call.names[0]
    info = services.store.ledger(ledger)
    if info is None or info.size < end:
        await services.reads.strong()
    journal = services.store.journal(ledger)
    end = min(end, journal.size)
    parts: list[bytes] = []
    size_bytes = 0
    for seq in range(query.start, end):
        body = block_body(journal, seq)
        size_bytes += len(body)
        if parts and size_bytes > limits.PAGE_SIZE_BYTES_MAX:
            break
        parts.append(body)
    following = query.start + len(parts)
    tail = b',"next":%d}' % following if parts and following < journal.size else b"}"
    return answer(b'{"blocks":[' + b",".join(parts) + b"]" + tail)


async def get_checkpoint(services: Services, call: Call) -> Response:
    (ledger,) = call.names
    demand = demand_of(services, typed_query(call, CheckpointQuery))
    await services.reads.strong()
    sealed = await services.sealing.covering(ledger, 0)
    note: str | None = services.checkpoints.of_seal(ledger, sealed)
    if demand != NO_DEMAND:
        services.witnessing.wanted(demand.names)
        note = await services.signing.cosigned(ledger, demand, sealed.size)
    if note is None:
        raise not_cosigned(demand, sealed)
    return web.Response(text=note, content_type=TEXT)


async def list_checkpoints(services: Services, call: Call) -> WholeAnswer:
    """From this node's own store: what it has gathered itself."""
    query = typed_query(call, CheckpointsQuery)
    if query.size is not UNSET:
        return _one_checkpoint(services, call.names[0], query.size)
    found = services.checkpoints.listed(call.names[0], query.from_size, query.limit + 1)
    shown = found[: query.limit]
    return answer_struct(
        schemas.Checkpoints(
            checkpoints=[schemas.KeptCheckpoint(size=size, note=note) for size, note in shown],
            next=found[-1][0] if len(found) > len(shown) else UNSET,
        )
    )


def _one_checkpoint(services: Services, ledger: str, wanted: int) -> WholeAnswer:
    for size, note in services.checkpoints.listed(ledger, wanted, 1):
        if size == wanted:
            return answer_struct(
                schemas.Checkpoints(checkpoints=[schemas.KeptCheckpoint(size=size, note=note)])
            )
    raise Problem("checkpoint-unknown", f"this node has kept no checkpoint of {wanted} blocks", field="size")


async def get_export(services: Services, call: Call) -> web.StreamResponse:
    """NDJSON of the journal. The size is agreed on first; what is appended meanwhile is not part of it."""
    (ledger,) = call.names
    query = typed_query(call, ExportQuery)
    await fresh(services, ledger, query)
    info = services.store.ledger(ledger)
    if info is None:
        raise LedgerUnknown(ledger)
    # Without an end: to a seal that covers everything there is now, so that a checkpoint speaks for it all.
    sealed = await _seal_at_end(services, info, None if query.end is UNSET else query.end)
    info = services.store.ledger(ledger) or info
    end = (info.size if sealed is None else sealed.size) if query.end is UNSET else query.end
    if end > info.size:
        raise BlockUnknown(end - 1, info.size)
    if query.start > end:
        raise BlockUnknown(query.start, end)
    head = _export_head(services, info, query.start, end, sealed)
    response = await begin_stream(call, services.config.node_id)
    await _write_blocks(response, services, info, head, range(query.start, end))
    await response.write_eof()
    return response


async def _seal_at_end(services: Services, info: LedgerInfo, end: int | None) -> Sealed | None:
    """The seal that an export ends with; None when it ends with another block, or there is no seal."""
    if end is not None:
        sealed = services.store.seal_at_or_after(info.name, end)
        return sealed if sealed is not None and sealed.size == end else None
    try:
        return await services.sealing.covering(info.name, info.size - 1)
    except NotSealed:
        return None


def _export_head(services: Services, info: LedgerInfo, start: int, end: int, sealed: Sealed | None) -> bytes:
    """With a checkpoint, the size is the checkpoint's; else the journal's as of now."""
    head = {
        "export": 1,
        "ledger": info.id.hex(),
        "name": info.name,
        "from": start,
        "to": end,
        "size": info.size if sealed is None else sealed.size,
        "checkpoint": None if sealed is None else services.checkpoints.of_seal(info.name, sealed),
    }
    return encode(head) + b"\n"


async def _write_blocks(
    response: web.StreamResponse, services: Services, info: LedgerInfo, head: bytes, span: range
) -> None:
    """Write `head` and the blocks of `span`; waits whenever the reader is slow."""
    journal = services.store.journal(info.name)
    chunk = [head]
    size_bytes = len(head)
    for seq in span:
        line = block_body(journal, seq) + b"\n"
        chunk.append(line)
        size_bytes += len(line)
        if size_bytes >= limits.EXPORT_CHUNK_SIZE_BYTES or len(chunk) >= limits.EXPORT_CHUNK_BLOCKS_MAX:
            await response.write(b"".join(chunk))
            chunk.clear()
            size_bytes = 0
            await asyncio.sleep(0)
            now = services.store.ledger(info.name)
            if now is None or now.id != info.id:
                # Dropped while it was read: the answer breaks off, so that nobody takes it for whole.
                raise LedgerUnknown(info.name)
    await response.write(b"".join(chunk))


_READ_PROBLEMS = ("ledger-unknown", "block-unknown")

ROUTES = (
    Route(
        "GET",
        _LEDGER + "/blocks/{seq}",
        get_block,
        operation_id="getBlock",
        summary="One block of the journal",
        tag="journal",
        query=BlockQuery,
        answers={200: Answer("The block.", Content(JSON, schemas.Block))},
        problems=(*_READ_PROBLEMS, "not-sealed", "not-cosigned"),
    ),
    Route(
        "GET",
        _LEDGER + "/blocks",
        list_blocks,
        operation_id="listBlocks",
        summary="Blocks of the journal in order",
        tag="journal",
        query=BlocksQuery,
        answers={200: Answer("A page; pass `next` as `from`.", Content(JSON, schemas.Blocks))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "GET",
        _LEDGER + "/checkpoint",
        get_checkpoint,
        operation_id="getCheckpoint",
        summary="The signed Merkle root of the journal up to its newest seal (C2SP tlog-checkpoint)",
        description="The log's signature comes first, then every replica's cosignature that is here (C2SP "
        "tlog-cosignature).",
        tag="journal",
        query=CheckpointQuery,
        answers={200: Answer("A signed note.", Content(TEXT, schema={"type": "string"}))},
        problems=("ledger-unknown", "not-sealed", "not-cosigned", "log-key-missing"),
    ),
    Route(
        "GET",
        _LEDGER + "/checkpoints",
        list_checkpoints,
        operation_id="listCheckpoints",
        summary="Every checkpoint that the answering node has kept, smallest first",
        description="A node keeps each checkpoint that it has signed, and each cosignature, for ever.",
        tag="journal",
        query=CheckpointsQuery,
        answers={200: Answer("A page; pass `next` as `from_size`.", Content(JSON, schemas.Checkpoints))},
        problems=("ledger-unknown", "checkpoint-unknown"),
    ),
    Route(
        "GET",
        _LEDGER + "/export",
        get_export,
        operation_id="exportJournal",
        summary="The journal as NDJSON, verifiable offline",
        tag="journal",
        query=ExportQuery,
        answers={
            200: Answer(
                "A line about the export, then a block a line.", Content(NDJSON, schema={"type": "string"})
            )
        },
        problems=(*_READ_PROBLEMS, "not-caught-up"),
        streams=True,
    ),
)
