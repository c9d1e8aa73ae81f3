"""An operator who holds the log's key and fewer than k replica keys gets no client to accept a lie.

The servers here are written for it: they sign whatever they like with the log's key and with one of three
replica keys, and keep every honest note that was ever made. The policy asks for the log and two replicas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from stele.client import Gone, InProcessMemory, NotFound, Rollback, SplitView, VerificationFailed
from tests.client.log import Log
from tests.client.malice import CORRUPT, forged, history_of, honest, lying, reading
from tests.client.served import problem


async def test_an_honest_server_is_believed() -> None:
    log = honest()
    log.put("k2", None)
    async with reading(log.handle, log) as cars:
        assert (await cars.get("default", "k1")).data == {"n": 1}
        with pytest.raises(Gone):
            await cars.get("default", "k2")
        with pytest.raises(NotFound):
            await cars.get("default", "k3")


async def test_a_rewritten_block() -> None:
    true, false = honest(), forged()
    assert true.size == false.size
    async with reading(false.handle, true) as cars:
        with pytest.raises(VerificationFailed, match="2 of"):
            await cars.get("default", "k1")
        with pytest.raises(VerificationFailed, match="2 of"):
            await cars.checkpoint()


async def test_a_rewritten_block_with_honest_cosignatures_pasted_on() -> None:
    true, false = honest(), forged()
    honest_lines = [line for line in true.checkpoint().splitlines(keepends=True) if "cluster/n" in line]
    answer = false.document("k1")
    own = "".join(
        line for line in answer["proof"]["checkpoint"].splitlines(keepends=True) if "/n" not in line
    )
    answer["proof"]["checkpoint"] = own + "".join(honest_lines)
    async with reading(lying(false, lambda key: web.json_response(answer)), true) as cars:
        with pytest.raises(VerificationFailed, match="does not fit the text"):
            await cars.get("default", "k1")


async def test_a_rewritten_document_under_the_honest_checkpoint() -> None:
    true, false = honest(), forged()
    answer = false.document("k1")
    answer["proof"]["checkpoint"] = true.checkpoint()
    async with reading(lying(true, lambda key: web.json_response(answer)), true) as cars:
        with pytest.raises(VerificationFailed):
            await cars.get("default", "k1")


async def test_a_ledger_rolled_back() -> None:
    short, long, memory = honest(2), honest(5), InProcessMemory()
    async with reading(long.handle, long, memory) as cars:
        await cars.get("default", "k1")
    async with reading(short.handle, long, memory) as cars:
        with pytest.raises(Rollback) as refused:
            await cars.get("default", "k1")
    assert refused.value.remembered == long.checkpoint()
    assert refused.value.seen == short.checkpoint()
    for note in (long.checkpoint(), short.checkpoint()):
        assert note.strip() in str(refused.value)


async def test_a_rollback_that_forgets_the_ledger() -> None:
    log, memory = honest(), InProcessMemory()
    async with reading(log.handle, log, memory) as cars:
        await cars.get("default", "k1")
    async with reading(lying(log, lambda key: problem("ledger-unknown", 404)), log, memory) as cars:
        with pytest.raises(Rollback, match="denies ledger"):
            await cars.get("default", "k1")


async def test_two_histories_for_two_clients() -> None:
    """Two of three replicas are honest and cosign one history: the other gets no quorum."""
    true, false = honest(), forged()
    async with reading(true.handle, true) as first:
        assert (await first.get("default", "k1")).data == {"n": 1}
    async with reading(false.handle, true) as second:
        with pytest.raises(VerificationFailed, match="2 of"):
            await second.get("default", "k1")


async def test_two_histories_are_found_when_clients_compare() -> None:
    """With the log's key alone both are believed, until one checkpoint reaches the other client."""
    true, false = honest(), forged(4)
    memory = InProcessMemory()
    async with reading(true.handle, true, memory, k=0) as first:
        assert (await first.get("default", "k1")).data == {"n": 1}
    async with reading(false.handle, true, k=0) as second:
        assert (await second.get("default", "k1")).data == {"n": 1_000_000}
        evidence = (await second.checkpoint()).note
    async with reading(false.handle, true, memory, k=0) as first:
        with pytest.raises(SplitView) as refused:
            await first.admit(evidence)
    assert (refused.value.remembered, refused.value.seen) == (true.checkpoint(), false.checkpoint())


def replayed(log: Log) -> list[dict[str, Any]]:
    """Answers that show version 0 of "k1", true once, as if it were current."""
    size = log.size
    seq = log.put("k1", {"n": 2})
    old, new = log.prover(size), log.prover()
    first = new.revision("default", "k1", 0)["document"]["revision"]
    state = new.current("default", "k1")
    revision_replaced = copy.deepcopy(state)
    revision_replaced["document"]["revision"] = first
    state_replaced = {**copy.deepcopy(state), "document": old.current("default", "k1")["document"]}
    seal_replaced = {**old.current("default", "k1"), "checkpoint": log.checkpoint()}
    stateless = copy.deepcopy(state)
    stateless["document"] = {"revision": first}
    as_of_then = new.as_of("default", "k1", seq - 1)
    return [
        old.answer(proof)
        for proof in (revision_replaced, state_replaced, seal_replaced, stateless, as_of_then)
    ]


@pytest.mark.parametrize("way", range(5))
async def test_an_old_value_as_current(way: int) -> None:
    log = honest()
    answer = replayed(log)[way]
    assert answer["data"] == {"n": 1}
    async with reading(lying(log, lambda key: web.json_response(answer)), log) as cars:
        with pytest.raises(VerificationFailed):
            await cars.get("default", "k1")


async def test_an_old_value_from_before_ones_own_write() -> None:
    """The checkpoint is honest and the client has seen none, but it knows that its write came later."""
    log = honest()
    old = log.document("k1")

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            seq = log.put("k1", {"n": 2})
            return web.json_response(
                {"table": "default", "key": "k1", "version": 1, "seq": seq, "tx": "", "at": old["at"]}
            )
        return web.json_response(old) if "/documents/" in request.path else await log.handle(request)

    async with reading(handle, log) as cars:
        await cars.put("default", "k1", {"n": 2})
        with pytest.raises(Rollback, match="acknowledged"):
            await cars.get("default", "k1")


Hide = Callable[[Log], web.StreamResponse]


def without_proof(log: Log) -> web.StreamResponse:
    return problem("not-found", 404)


def deleted_without_proof(log: Log) -> web.StreamResponse:
    return problem("gone", 410)


def with_the_proof_of_another_key(log: Log) -> web.StreamResponse:
    return problem("not-found", 404, proof=log.prover().current("default", "k9"))


def without_the_revision(log: Log) -> web.StreamResponse:
    proof = log.prover().current("default", "k1")
    del proof["document"]["revision"]
    return problem("not-found", 404, proof=proof)


def in_another_table(log: Log) -> web.StreamResponse:
    proof = log.prover().current("default", "k1")
    proof["table"], proof["document"] = log.prover().current("other", "k1")["table"], {}
    return problem("table-unknown", 404, proof=proof)


def with_the_table_denied(log: Log) -> web.StreamResponse:
    return problem("table-unknown", 404)


def from_before_it_was_written(log: Log) -> web.StreamResponse:
    early = log.journal.blocks[3]["header"]["seq"]
    proof = log.prover(early).current("default", "k1")
    proof["checkpoint"] = log.checkpoint()
    return problem("not-found", 404, proof=proof)


def from_a_forged_history(log: Log) -> web.StreamResponse:
    return problem("not-found", 404, proof=Log(replicas=CORRUPT).prover().current("default", "k1"))


@pytest.mark.parametrize(
    "hide",
    [
        without_proof,
        deleted_without_proof,
        with_the_proof_of_another_key,
        without_the_revision,
        in_another_table,
        with_the_table_denied,
        from_before_it_was_written,
        from_a_forged_history,
    ],
)
async def test_a_hidden_key(hide: Hide) -> None:
    log = honest()
    async with reading(lying(log, lambda key: hide(log)), log) as cars:
        with pytest.raises(VerificationFailed):
            await cars.get("default", "k1")


async def refused_history(log: Log, answer: dict[str, Any]) -> None:
    async with reading(lying(log, lambda key: web.json_response(answer)), log) as cars:
        with pytest.raises(VerificationFailed):
            [revision async for revision in cars.history("default", "k1")]


async def test_a_history_with_something_left_out_or_changed() -> None:
    log = honest()
    for n in (2, 3):
        log.put("k1", {"n": n})
    true = history_of(log)
    async with reading(lying(log, lambda key: web.json_response(true)), log) as cars:
        assert [each.data async for each in cars.history("default", "k1")] == [{"n": n} for n in (3, 2, 1)]
    newest_missing, gap, changed, renamed = (copy.deepcopy(true) for _ in range(4))
    del newest_missing["revisions"][0], newest_missing["proof"]["document"]["older"][0]
    del gap["revisions"][1], gap["proof"]["document"]["older"][0]
    changed["revisions"][2]["data"] = {"n": 7}
    renamed["revisions"][0]["tx"] = "0" * 32
    for answer in (newest_missing, gap, changed, renamed):
        await refused_history(log, answer)


async def test_a_past_that_was_not() -> None:
    log = honest()
    seq = log.put("k1", {"n": 2})
    prover = log.prover()
    wrong = prover.answer(prover.as_of("default", "k1", seq))

    async with reading(lying(log, lambda key: web.json_response(wrong)), log) as cars:
        assert (await cars.get("default", "k1", as_of_seq=seq)).data == {"n": 2}
        with pytest.raises(VerificationFailed, match="as of block"):
            await cars.get("default", "k1", as_of_seq=seq - 1)


async def test_a_receipt_is_checked_before_it_is_handed_out() -> None:
    log, answer = honest(), honest().document("k1")
    answer["data"] = {"n": 99}
    lie: Callable[[str], web.StreamResponse] = lambda key: web.json_response(answer)  # noqa: E731
    async with reading(lying(log, lie), log) as cars:
        with pytest.raises(VerificationFailed, match="receipt"):
            await cars.receipt("default", "k1")
    async with reading(log.handle, log) as cars:
        assert b'"kind": "current"' in await cars.receipt("default", "k1")
