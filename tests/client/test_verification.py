"""A client refuses whatever does not follow from what the log has signed and shown before."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.client import (
    CheckpointFile,
    Client,
    InProcessMemory,
    NotTrusted,
    Rollback,
    SplitView,
    TrustPolicy,
    VerificationFailed,
)
from stele.format.note import SigningKey
from tests.client.log import Log
from tests.client.served import serving


def sample(documents: int = 3, **options: Any) -> Log:
    log = Log(**options)
    for number in range(documents):
        log.put(f"k{number}", {"n": number})
    return log


def policy(log: Log) -> TrustPolicy:
    return TrustPolicy(log.key.verifier_key())


async def test_an_honest_log_is_read_and_followed_as_it_grows() -> None:
    log, memory = sample(), InProcessMemory()
    async with serving(log.handle) as url, Client([url], trust=policy(log), memory=memory) as client:
        cars = client.ledger("cars")
        assert (await cars.get("default", "k1")).data == {"n": 1}
        for number in range(3, 20):
            log.put(f"k{number}", {"n": number})
            assert (await cars.get("default", f"k{number}")).data == {"n": number}
        checkpoint = await cars.checkpoint()
    assert (checkpoint.size, checkpoint.verified) == (log.size, True)
    remembered = memory.newest(log.key.verifier_key())
    assert remembered is not None
    assert remembered.note == log.checkpoint()


def place_of(answer: dict[str, Any]) -> dict[str, Any]:
    place: dict[str, Any] = answer["proof"]["document"]["revision"]["place"]
    return place


def in_data(answer: dict[str, Any]) -> None:
    answer["data"]["n"] = 99


def in_salt(answer: dict[str, Any]) -> None:
    answer["proof"]["document"]["revision"]["salt"] = "00" * 32


def in_version(answer: dict[str, Any]) -> None:
    answer["version"] = 7


def in_time(answer: dict[str, Any]) -> None:
    answer["at"] = "2031-01-01T00:00:00.000000Z"


def in_header(answer: dict[str, Any]) -> None:
    place_of(answer)["header"]["at"] = answer["at"] = "2031-01-01T00:00:00.000000Z"


def in_path(answer: dict[str, Any]) -> None:
    place = place_of(answer)
    place["path"] = "AAAA" + place["path"][4:]


def in_root(answer: dict[str, Any]) -> None:
    note = answer["proof"]["checkpoint"]
    origin, size, root, rest = note.split("\n", 3)
    answer["proof"]["checkpoint"] = "\n".join([origin, size, root[::-1].lstrip("=") + "=", rest])


def whole_proof(answer: dict[str, Any]) -> None:
    del answer["proof"]


@pytest.mark.parametrize(
    "tamper", [in_data, in_salt, in_version, in_time, in_header, in_path, in_root, whole_proof]
)
async def test_a_tampered_answer_is_refused(tamper: Callable[[dict[str, Any]], None]) -> None:
    log, memory = sample(), InProcessMemory()

    async def lie(request: web.Request) -> web.StreamResponse:
        if "/documents/" not in request.path:
            return await log.handle(request)
        answer = copy.deepcopy(log.document("k1"))
        tamper(answer)
        return web.json_response(answer)

    async with serving(lie) as url, Client([url], trust=policy(log), memory=memory) as client:
        with pytest.raises(VerificationFailed):
            await client.ledger("cars").get("default", "k1")
    assert memory.newest(log.key.verifier_key()) is None


async def test_another_document_than_asked_for_is_refused() -> None:
    log = sample()

    async def lie(request: web.Request) -> web.StreamResponse:
        if "/documents/" in request.path:
            return web.json_response(log.document("k0"))
        return await log.handle(request)

    async with serving(lie) as url, Client([url], trust=policy(log)) as client:
        with pytest.raises(VerificationFailed, match="k1"):
            await client.ledger("cars").get("default", "k1")


async def test_a_key_that_is_not_trusted_is_refused() -> None:
    log, other = sample(), Log(seed=2)
    async with serving(log.handle) as url, Client([url], trust=policy(other)) as client:
        with pytest.raises(VerificationFailed, match="sign"):
            await client.ledger("cars").checkpoint()


async def test_a_rollback_is_refused_with_both_checkpoints() -> None:
    short, long, memory = sample(2), sample(5), InProcessMemory()
    async with serving(long.handle) as url, Client([url], trust=policy(long), memory=memory) as client:
        await client.ledger("cars").checkpoint()
    async with serving(short.handle) as url, Client([url], trust=policy(long), memory=memory) as client:
        with pytest.raises(Rollback) as refused:
            await client.ledger("cars").get("default", "k1")
    assert refused.value.remembered == long.checkpoint()
    assert refused.value.seen == short.checkpoint()
    assert long.checkpoint().strip() in str(refused.value)
    assert short.checkpoint().strip() in str(refused.value)


async def test_a_snapshot_read_may_be_older_but_not_of_another_journal() -> None:
    short, long, memory = sample(2), sample(5), InProcessMemory()
    stranger = Log()
    stranger.put("k1", {"n": 1})

    async def behind(request: web.Request) -> web.StreamResponse:
        return await (short if "/documents/" in request.path else long).handle(request)

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return await (stranger if "/documents/" in request.path else long).handle(request)

    async with serving(long.handle) as url, Client([url], trust=policy(long), memory=memory) as client:
        await client.ledger("cars").checkpoint()
    async with serving(behind) as url, Client([url], trust=policy(long), memory=memory) as client:
        assert (await client.ledger("cars").get("default", "k1", consistency="snapshot")).data == {"n": 1}
    async with serving(elsewhere) as url, Client([url], trust=policy(long), memory=memory) as client:
        with pytest.raises(SplitView):
            await client.ledger("cars").get("default", "k1", consistency="snapshot")
    remembered = memory.newest(long.key.verifier_key())
    assert remembered is not None
    assert remembered.note == long.checkpoint()


@pytest.mark.parametrize("extra", [0, 3])
async def test_a_split_view_is_refused(extra: int) -> None:
    """The same size with another root, and a longer journal that does not extend the one seen."""
    seen, memory = sample(3), InProcessMemory()
    fork = Log()
    for number in range(3 + extra):
        fork.put(f"k{number}", {"n": number + 100})
    async with serving(seen.handle) as url, Client([url], trust=policy(seen), memory=memory) as client:
        await client.ledger("cars").checkpoint()
    async with serving(fork.handle) as url, Client([url], trust=policy(seen), memory=memory) as client:
        with pytest.raises(SplitView) as refused:
            await client.ledger("cars").get("default", "k1")
    assert (refused.value.remembered, refused.value.seen) == (seen.checkpoint(), fork.checkpoint())


async def test_answers_that_overtake_each_other_are_no_rollback() -> None:
    log, arrived, held = sample(40), asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await log.handle(request)
        if request.path.endswith("/documents/k1"):
            arrived.set()
            await held.wait()
        return answer

    async with serving(handle) as url, Client([url], trust=policy(log)) as client:
        cars = client.ledger("cars")
        await cars.checkpoint()
        reading = asyncio.create_task(cars.get("default", "k1"))
        await arrived.wait()
        log.put("k40", {"n": 40})
        await cars.get("default", "k40")
        held.set()
        assert (await reading).data == {"n": 1}


async def test_trust_on_first_use_pins_the_key(tmp_path: Path) -> None:
    log, other = sample(), sample(seed=2)
    file = CheckpointFile(tmp_path / "checkpoints.json")
    current = log

    async def handle(request: web.Request) -> web.StreamResponse:
        return await current.handle(request)

    async with serving(handle) as url:
        async with Client([url], trust=TrustPolicy.on_first_use(), memory=file) as client:
            await client.ledger("cars").get("default", "k1")
            assert await client.ledger("cars").verifier_key() == log.key.verifier_key()
        current = other
        async with Client([url], trust=TrustPolicy.on_first_use(), memory=file) as client:
            with pytest.raises(VerificationFailed):
                await client.ledger("cars").get("default", "k1")


async def test_nothing_is_verified_without_a_policy() -> None:
    log = sample()
    async with serving(log.handle) as url, Client([url]) as client:
        assert (await client.ledger("cars").get("default", "k1")).data == {"n": 1}
        assert not (await client.ledger("cars").checkpoint()).verified
        with pytest.raises(NotTrusted):
            await client.ledger("cars").get("default", "k1", verify=True)


@pytest.mark.parametrize("seed", range(1, 40))
def test_a_key_for_another_ledger_is_derived_exactly(seed: int) -> None:
    """Base64 has plus signs of its own."""
    log = Log(seed=seed)
    boats = SigningKey("test/boats", Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))
    assert TrustPolicy(log.key.verifier_key()).key_of("boats") == boats.verifier_key()


def test_the_key_of_one_ledger_covers_the_clusters_others() -> None:
    key = Log().key.verifier_key()
    trust = TrustPolicy(key)
    assert trust.key_of("cars") == key
    other = trust.key_of("boats")
    assert other is not None
    assert other.startswith("test/boats+")
    assert TrustPolicy(other).key_of("cars") == key
    with pytest.raises(NotTrusted):
        TrustPolicy("nonsense")
    with pytest.raises(NotTrusted, match="several clusters"):
        TrustPolicy(key, Log(seed=3).key.verifier_key()).key_of("boats")
