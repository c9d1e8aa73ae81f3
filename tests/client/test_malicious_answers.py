"""What a lying server says beside a proof that holds: no client takes it for proved.

The checkpoint, and every part of the proof, is honest here; the lie is in what the answer claims with it, or
in what it leaves out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from stele.client import Gone, NotFound, Rollback, SteleError, VerificationFailed
from tests.client.log import Log
from tests.client.malice import history_of, honest, lying, reading
from tests.client.served import Handler, problem


async def test_a_key_hidden_behind_a_block_that_nobody_asked_for() -> None:
    """That a block does not exist cannot be proved. So only who names one beyond all known hears it."""
    log = honest()
    async with reading(lying(log, lambda key: problem("block-unknown", 404)), log) as cars:
        with pytest.raises(VerificationFailed):
            await cars.get("default", "k1")
        with pytest.raises(VerificationFailed):
            [each async for each in cars.history("default", "k1")]
        with pytest.raises(NotFound):
            await cars.get("default", "k1", as_of_seq=log.size + 7)
        with pytest.raises(NotFound):
            await cars.get("default", "k1", min_seq=log.size + 7)
        cars.note_written(log.size + 7)
        with pytest.raises(Rollback, match="denies block"):
            await cars.get("default", "k1", as_of_seq=log.size + 7)


@pytest.mark.parametrize("slug", ["not-found", "table-unknown", "erased"])
async def test_a_deleted_document_as_something_else(slug: str) -> None:
    log = honest()
    log.put("k1", None)
    proof = log.prover().current("default", "k1")
    status = 410 if slug == "erased" else 404
    async with reading(lying(log, lambda key: problem(slug, status, proof=proof)), log) as cars:
        with pytest.raises(VerificationFailed, match="gone"):
            await cars.get("default", "k1")


@pytest.mark.parametrize("slug", ["gone", "erased", "table-dropped"])
async def test_what_never_was_as_deleted(slug: str) -> None:
    log = honest()
    proof = log.prover().current("default", "k9")
    async with reading(lying(log, lambda key: problem(slug, 410, proof=proof)), log) as cars:
        with pytest.raises(VerificationFailed, match="missing"):
            await cars.get("default", "k9")


async def test_a_history_that_ends_early() -> None:
    """A page without revisions, and a page that says the document is deleted, which it is."""
    log = honest()
    for data in ({"n": 2}, {"n": 3}, None):
        log.put("k1", data)
    first = history_of(log)
    rest = copy.deepcopy(first["proof"])
    del first["revisions"][2:], first["proof"]["document"]["older"][1:]
    empty = {"revisions": [], "proof": {**rest, "document": {}}}
    gone = log.prover().current("default", "k1")

    def answering(second: Callable[[], web.StreamResponse]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not request.path.endswith("/history"):
                return await log.handle(request)
            return second() if "after" in request.query else web.json_response(first)

        return handle

    for second in (
        lambda: web.json_response(empty),
        lambda: problem("gone", 410, proof=gone),
        lambda: problem("not-found", 404, proof=gone),
    ):
        async with reading(answering(second), log) as cars:
            with pytest.raises(VerificationFailed):
                [each async for each in cars.history("default", "k1")]


async def test_a_receipt_from_before_ones_own_write() -> None:
    log = honest()
    old = log.document("k1")
    seq = log.put("k1", {"n": 2})
    async with reading(lying(log, lambda key: web.json_response(old)), log) as cars:
        cars.note_written(seq)
        with pytest.raises(Rollback, match="acknowledged"):
            await cars.receipt("default", "k1")


async def test_a_receipt_without_the_content_that_nothing_erased() -> None:
    log = honest()
    proof = log.prover().current("default", "k1")
    del proof["document"]["revision"]["salt"], proof["document"]["revision"]["data"]
    async with reading(lying(log, lambda key: problem("erased", 410, proof=proof)), log) as cars:
        with pytest.raises(VerificationFailed, match="withheld"):
            await cars.receipt("default", "k1")
        with pytest.raises(VerificationFailed, match="withheld"):
            await cars.get("default", "k1")


async def test_a_history_without_a_content_that_nothing_erased() -> None:
    log = honest()
    log.put("k1", {"n": 2})
    answer = history_of(log)
    del answer["proof"]["document"]["older"][0]["salt"], answer["revisions"][1]["data"]
    for claim in ({}, {"erased": log.size - 1}):
        answer["revisions"][1] |= claim
        async with reading(lying(log, lambda key: web.json_response(answer)), log) as cars:
            with pytest.raises(VerificationFailed):
                [each async for each in cars.history("default", "k1")]
            with pytest.raises(VerificationFailed, match="withheld"):
                await cars.receipt("default", "k1", history=True)


async def test_a_receipt_of_another_block() -> None:
    log = honest()

    async def handle(request: web.Request) -> web.StreamResponse:
        if "/blocks/" not in request.path:
            return await log.handle(request)
        return web.json_response({**log.journal.blocks[3], "proof": log.prover().block(3)})

    async with reading(handle, log) as cars:
        assert b'"kind": "block"' in await cars.block_receipt(3)
        with pytest.raises(VerificationFailed, match="block"):
            await cars.block_receipt(4)


def older_is_no_list(log: Log) -> dict[str, Any]:
    answer = history_of(log)
    answer["proof"]["document"]["older"] = 5
    return answer


def deep(log: Log) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"a": [nested]}
    return {**log.document("k1"), "data": nested}


@pytest.mark.parametrize("made", [older_is_no_list, deep])
async def test_answers_out_of_shape_are_typed_errors(made: Callable[[Log], dict[str, Any]]) -> None:
    log = honest()
    answer = made(log)
    async with reading(lying(log, lambda key: web.json_response(answer)), log) as cars:
        with pytest.raises(SteleError):
            await cars.get("default", "k1")
        with pytest.raises(SteleError):
            [each async for each in cars.history("default", "k1")]


@pytest.mark.parametrize("status", [200, 404])
async def test_bottomless_json_is_a_typed_error(status: int) -> None:
    log = honest()
    text = b'{"type":"urn:stele:problem:not-found","status":404,"proof":{"a":%b' % (b"[" * 200_000)
    answer: Callable[[str], web.StreamResponse] = lambda key: web.Response(body=text, status=status)  # noqa: E731
    async with reading(lying(log, answer), log) as cars:
        with pytest.raises(SteleError):
            await cars.get("default", "k1")


async def test_what_is_gone_is_still_said_so() -> None:
    log = honest()
    log.put("k1", None)
    async with reading(log.handle, log) as cars:
        with pytest.raises(Gone):
            await cars.get("default", "k1")
