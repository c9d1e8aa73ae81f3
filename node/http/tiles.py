"""The journal as static files that third-party tools read: C2SP tlog-tiles.

Nothing is served beyond the newest checkpoint, and what is served never changes: any node that has it
serves it, one that has not yet asks the leader.
"""

from __future__ import annotations

import gzip
import re

from aiohttp import web

from node.http.problems import Problem
from node.http.route import TEXT, Answer, Call, Content, Route
from node.http.services import Services
from stele.format.tiles import TilePlace, entry_bundle, parse_tile_place
from storage.journal import Journal

_TLOG = "/v1/ledgers/{ledger}/tlog"
_BYTES = "application/octet-stream"

IMMUTABLE = "public, max-age=31536000, immutable"
"""Of tiles and bundles, partial ones too: their address names exactly these bytes (RFC 8246)."""

CHECKPOINT_CACHING = "public, max-age=1"
"""tlog-tiles: nothing may keep a checkpoint for more than a few seconds; a new one comes every second."""

_GZIP = re.compile(r"(?:^|,)[ \t]*(?:gzip|x-gzip|\*)[ \t]*(?:;[ \t]*q=([01](?:\.[0-9]{0,3})?))?[ \t]*(?=,|$)")


async def get_tlog_checkpoint(services: Services, call: Call) -> web.Response:
    (ledger,) = call.names
    if services.store.ledger(ledger) is None:
        await services.reads.strong()
    sealed = services.store.sealed(ledger) or await services.sealing.covering(ledger, 0)
    return web.Response(
        text=services.checkpoints.of_seal(ledger, sealed),
        content_type=TEXT,
        headers={"Cache-Control": CHECKPOINT_CACHING},
    )


async def get_tile(services: Services, call: Call) -> web.Response:
    ledger, level_text, place_text = call.names
    level, place = int(level_text), parse_tile_place(place_text)
    journal = await _published(services, ledger, level, place)
    return _answer(journal.tile(level, place.index, place.width))


async def get_entry_bundle(services: Services, call: Call) -> web.Response:
    ledger, place_text = call.names
    place = parse_tile_place(place_text)
    journal = await _published(services, ledger, 0, place)
    end = place.tree_size(0)
    bundle = entry_bundle(journal.header(seq) for seq in range(end - place.width, end))
    if not _takes_gzip(call):
        return _answer(bundle, vary=True)
    response = _answer(gzip.compress(bundle, mtime=0), vary=True)
    response.headers["Content-Encoding"] = "gzip"
    return response


async def _published(services: Services, ledger: str, level: int, place: TilePlace) -> Journal:
    """The journal, when a checkpoint covers the whole tile: this node's own, else the leader's.

    Raises NotLeader, whereupon the request is passed on, and Problem.
    """
    size = place.tree_size(level)
    if services.store.ledger(ledger) is None or not _covers(services, ledger, size):
        await services.reads.strong()
    journal = services.store.journal(ledger)
    if not _covers(services, ledger, size):
        raise Problem("tile-unknown", f"no checkpoint of ledger {ledger!r} covers all of this tile")
    return journal


def _covers(services: Services, ledger: str, size: int) -> bool:
    """Whether the newest seal that this node has, and so a checkpoint, covers so many blocks."""
    sealed = services.store.sealed(ledger)
    return sealed is not None and sealed.size >= size


def _answer(body: bytes, *, vary: bool = False) -> web.Response:
    headers = {"Content-Type": _BYTES, "Cache-Control": IMMUTABLE}
    if vary:
        headers["Vary"] = "Accept-Encoding"
    return web.Response(body=body, headers=headers)


def _takes_gzip(call: Call) -> bool:
    """Whether Accept-Encoding allows gzip (RFC 9110, section 12.5.3)."""
    accepted = ",".join(call.request.headers.getall("Accept-Encoding", [])).lower()
    weights = _GZIP.findall(accepted)
    return bool(weights) and all(weight == "" or float(weight) > 0 for weight in weights)


_FILE = Content(_BYTES, schema={"type": "string", "format": "binary"})
_CACHING = {"Cache-Control": "A year for tiles and bundles, a second for the checkpoint."}
_PROBLEMS = ("ledger-unknown", "tile-unknown")

ROUTES = (
    Route(
        "GET",
        _TLOG + "/checkpoint",
        get_tlog_checkpoint,
        operation_id="getTlogCheckpoint",
        summary="The newest checkpoint that this node has (C2SP tlog-tiles)",
        tag="tlog",
        answers={200: Answer("A signed note.", Content(TEXT, schema={"type": "string"}), _CACHING)},
        problems=("ledger-unknown", "not-sealed"),
    ),
    Route(
        "GET",
        _TLOG + "/tile/{tile_level}/{tile}",
        get_tile,
        operation_id="getTile",
        summary="Up to 256 hashes of the Merkle tree (C2SP tlog-tiles)",
        tag="tlog",
        answers={200: Answer("32 bytes a hash.", _FILE, _CACHING)},
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        _TLOG + "/tile/entries/{tile}",
        get_entry_bundle,
        operation_id="getEntryBundle",
        summary="Up to 256 block headers, each behind its length (C2SP tlog-tiles)",
        tag="tlog",
        answers={200: Answer("Entries, each behind a big-endian uint16.", _FILE, _CACHING)},
        problems=_PROBLEMS,
    ),
)
