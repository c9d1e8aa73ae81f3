"""What is sent again, what is not, and what the caller learns. Each server fails on purpose."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from stele.client import (
    Client,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Problem,
    ServerFailed,
    Unavailable,
    VersionMismatch,
)
from stele.client import client as client_module
from stele.client import errors as kinds
from stele.client.errors import error_of, parse_problem
from tests.client.served import drop, problem, serving

WRITTEN = {"table": "t", "key": "k", "version": 0, "seq": 2, "tx": "0" * 32, "at": "2026-01-01T00:00:00.5Z"}


class Scripted:
    """Answers with the given steps in turn, then with success; keeps what it was asked."""

    def __init__(self, *steps: web.Response | str) -> None:
        self.steps = list(steps)
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        await request.read()
        step = self.steps.pop(0) if self.steps else web.json_response(WRITTEN)
        return drop(request) if isinstance(step, str) else step

    @property
    def keys(self) -> set[str | None]:
        return {request.headers.get("Idempotency-Key") for request in self.requests}


async def test_a_dropped_connection_is_retried_under_the_same_key() -> None:
    server = Scripted("drop", "drop", problem("no-leader", 503, retryable=True))
    async with serving(server.handle) as url, Client([url]) as client:
        assert (await client.ledger("cars").put("t", "k", {"a": 1})).seq == 2
    assert len(server.requests) >= 4
    assert len(server.keys) == 1
    assert None not in server.keys


async def test_the_callers_key_is_used() -> None:
    server = Scripted()
    async with serving(server.handle) as url, Client([url]) as client:
        await client.ledger("cars").put("t", "k", {}, idempotency_key="order-1")
    assert server.keys == {"order-1"}


async def test_an_endpoint_that_is_down_is_passed_over() -> None:
    server = Scripted()
    async with serving(server.handle) as url:
        dead = f"http://127.0.0.1:{unused_port()}"
        async with Client([dead, url]) as client:
            started_s = time.monotonic()
            for _ in range(5):
                await client.ledger("cars").put("t", "k", {})
            assert time.monotonic() - started_s < 2
    assert len(server.requests) == 5


async def test_retry_after_is_obeyed() -> None:
    server = Scripted(problem("overloaded", 503, retryable=True, headers={"Retry-After": "1"}))
    async with serving(server.handle) as url, Client([url]) as client:
        started_s = time.monotonic()
        await client.ledger("cars").put("t", "k", {})
        assert 0.9 < time.monotonic() - started_s < 3


async def test_what_cannot_help_is_not_sent_again() -> None:
    server = Scripted(problem("version-mismatch", 412, current_version=4, request_id="r-1"))
    async with serving(server.handle) as url, Client([url]) as client:
        with pytest.raises(VersionMismatch) as refused:
            await client.ledger("cars").put("t", "k", {}, if_version=3)
    assert refused.value.problem is not None
    assert refused.value.problem.current_version == 4
    assert refused.value.problem.request_id == "r-1"
    assert [request.headers["If-Match"] for request in server.requests] == ['"3"']


async def test_a_write_that_never_left_is_unavailable() -> None:
    async with Client([f"http://127.0.0.1:{unused_port()}"], timeout_s=0.3) as client:
        with pytest.raises(Unavailable) as failed:
            await client.ledger("cars").put("t", "k", {})
    assert not isinstance(failed.value, OutcomeUnknown)


async def test_a_write_that_may_have_left_is_an_unknown_outcome() -> None:
    server = Scripted(*["drop"] * 100)
    async with serving(server.handle) as url, Client([url], timeout_s=0.5) as client:
        with pytest.raises(OutcomeUnknown) as failed:
            await client.ledger("cars").put("t", "k", {})
        with pytest.raises(Unavailable) as read:
            await client.ledger("cars").get("t", "k")
    assert {failed.value.idempotency_key} <= server.keys
    assert failed.value.idempotency_key is not None
    assert not isinstance(read.value, OutcomeUnknown)


async def test_an_unknown_outcome_stays_unknown_when_the_cluster_goes_away() -> None:
    steps = [problem("outcome-unknown", 503, retryable=True, tx="a" * 32)]
    steps += [problem("no-leader", 503, retryable=True) for _ in range(100)]
    server = Scripted(*steps)
    async with serving(server.handle) as url, Client([url], timeout_s=0.5) as client:
        with pytest.raises(OutcomeUnknown):
            await client.ledger("cars").put("t", "k", {})


async def test_a_silent_server_meets_the_deadline() -> None:
    held = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await held.wait()
        return web.Response()

    async with serving(silent) as url, Client([url], timeout_s=0.3) as client:
        with pytest.raises(OutcomeUnknown):
            await client.ledger("cars").put("t", "k", {})
        held.set()


async def test_the_leader_is_asked_directly_once_it_is_known() -> None:
    """The follower forwards (its answers carry the leader's id); after that it is asked no more."""
    urls: dict[str, str] = {}
    asked: list[str] = []

    async def node(name: str, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/cluster":
            nodes = [{"id": known, "zone": "z", "http": url} for known, url in urls.items()]
            return web.json_response({"cluster": "c", "node": name, "members": nodes, "leader": "leader"})
        asked.append(name)
        return web.json_response(WRITTEN, headers={"X-Stele-Node": "leader"})

    async def follower(request: web.Request) -> web.StreamResponse:
        return await node("follower", request)

    async def leader(request: web.Request) -> web.StreamResponse:
        return await node("leader", request)

    async with serving(follower) as first, serving(leader) as second:
        urls |= {"follower": first, "leader": second}
        async with Client([first]) as client:
            for _ in range(4):
                await client.ledger("cars").put("t", "k", {})
    assert asked == ["follower", "leader", "leader", "leader"]


async def test_a_node_that_knows_no_leader_is_asked_after_the_others() -> None:
    """It may have been removed from the cluster: waiting for it would be in vain."""
    removed, member = Scripted(*[problem("no-leader", 503, retryable=True) for _ in range(99)]), Scripted()
    async with (
        serving(removed.handle) as first,
        serving(member.handle) as second,
        Client([first, second]) as client,
    ):
        for _ in range(3):
            await client.ledger("cars").put("t", "k", {})
    assert (len(removed.requests), len(member.requests)) == (1, 3)


async def test_a_node_that_hangs_is_asked_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "STATUS_TIMEOUT_S", 0.2)
    asked: list[str] = []
    over = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        asked.append("hangs")
        await over.wait()
        return web.Response()

    async def answers(request: web.Request) -> web.StreamResponse:
        asked.append("answers")
        return web.json_response({"cluster": "c", "node": "n1", "members": []})

    async with serving(hangs) as first, serving(answers) as second, Client([first, second]) as client:
        for _ in range(2):
            assert (await client.cluster()).node == "n1"
        over.set()
    assert asked == ["hangs", "answers", "answers"]


async def test_a_change_of_members_that_must_wait_for_another_one_is_sent_again() -> None:
    busy = problem("change-in-progress", 409, retryable=True, headers={"Retry-After": "0"})
    added = {"id": "n3", "zone": "d", "raft": "h:1", "http": "http://h:2", "voter": False}
    server = Scripted(busy, web.json_response(added), problem("quorum-at-risk", 409, retryable=False))
    async with serving(server.handle) as url, Client([url]) as client:
        assert not (await client.add_member("n3", zone="d", raft="h:1", http="h:2")).voter
        with pytest.raises(Conflict, match="quorum-at-risk"):
            await client.remove_member("n3")
        with pytest.raises(Invalid):
            await client.promote_member("../n3")
    sent = [(request.method, request.path) for request in server.requests]
    assert sent == [("POST", "/v1/cluster/members")] * 2 + [("DELETE", "/v1/cluster/members/n3")]


async def test_an_answer_that_makes_no_sense_is_an_error_of_its_own() -> None:
    server = Scripted(web.Response(text="<html>"), web.json_response({"version": "x"}))
    async with serving(server.handle) as url, Client([url]) as client:
        for _ in range(2):
            with pytest.raises(ServerFailed):
                await client.ledger("cars").get("t", "k")


async def test_names_that_could_mean_another_address_are_not_sent() -> None:
    server = Scripted()
    async with serving(server.handle) as url, Client([url]) as client:
        for key in ["..", ".", "a/b", "", "a\n", "x" * 513]:
            with pytest.raises(Invalid):
                await client.ledger("cars").delete("t", key)
        with pytest.raises(Invalid):
            client.ledger("../x")
        with pytest.raises(Invalid):
            await client.ledger("cars").put("../t", "k", {})
        with pytest.raises(Invalid, match="nan"):
            await client.ledger("cars").put("t", "k", {"a": [{"b": float("nan")}]})
        assert server.requests == []
        await client.ledger("cars").put("t", "Ä %2F?#ü", {"a": None})
    assert server.requests[0].path.endswith("/documents/Ä %2F?#ü")


@pytest.mark.parametrize(
    ("slug", "status", "kind"),
    [
        ("not-found", 404, NotFound),
        ("gone", 410, Gone),
        ("table-dropped", 410, Gone),
        ("version-mismatch", 412, VersionMismatch),
        ("condition-failed", 409, kinds.ConditionFailed),
        ("deletion-protected", 409, kinds.DeletionProtected),
        ("idempotency-key-reused", 422, kinds.IdempotencyKeyReused),
        ("ledger-limit", 409, Conflict),
        ("invalid-json", 400, Invalid),
        ("body-too-large", 413, Invalid),
        ("outcome-unknown", 503, OutcomeUnknown),
        ("no-leader", 503, Unavailable),
        ("something-new", 503, Unavailable),
        ("internal-error", 500, ServerFailed),
    ],
)
def test_problems_become_typed_errors(slug: str, status: int, kind: type[Exception]) -> None:
    sent = Problem(type=f"urn:stele:problem:{slug}", status=status, detail="so it is")
    error = error_of(parse_problem(status, msgspec.json.encode(sent), "r"))
    assert type(error) is kind
    assert error.problem == sent
    assert str(error) == "so it is"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"type":1}', b"\xff"])
def test_an_error_without_a_problem_is_told_by_its_status(body: bytes) -> None:
    error = error_of(parse_problem(503, body, "r-2"))
    assert isinstance(error, Unavailable)
    assert error.problem is not None
    assert error.problem.request_id == "r-2"
