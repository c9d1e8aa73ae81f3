"""stele cluster: what it shows, asks and says, against a server that is told what to answer.

What real nodes do with these requests is in tests/cluster/test_members.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from stele.cli import catching_up
from tests.cli.conftest import Stele
from tests.client.served import problem, serving

CHANGED = {"id": "n3", "zone": "d", "raft": "h:1", "http": "http://h:2", "voter": True}


def member(member_id: str, zone: str, **members: Any) -> dict[str, Any]:
    place = {"id": member_id, "zone": zone, "http": "http://127.0.0.1:9", "raft": "h:1"}
    return {**place, "role": "follower", "healthy": True, "lag": 0, **members}


class Server:
    """A cluster in one place: a membership, and how far its learners are."""

    def __init__(self) -> None:
        self.leader: str | None = "n0"
        self.deposed = False
        self.strong = 0
        self.members = {f"n{n}": member(f"n{n}", "abc"[n], voter=True, caught_up=True) for n in range(3)}
        self.retired: set[str] = set()
        self.lags: list[int] = []
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/v1/cluster").removeprefix("/members").strip("/")
        if request.method == "GET":
            return self._status(request)
        self.asked.append(f"{request.method} {name}".strip())
        if request.method == "POST" and not name:
            body = await request.json()
            self.members.setdefault(body["id"], {**body, "voter": False, "caught_up": False})
            return web.json_response({**CHANGED, **body, "voter": False}, status=201)
        member_id, _, promote = name.partition("/")
        if member_id not in self.members:
            slug = "member-removed" if member_id in self.retired else "member-unknown"
            return problem(slug, 404, retryable=False)
        if promote:
            return self._promote(member_id)
        del self.members[member_id]
        self.retired.add(member_id)
        return web.Response(status=204)

    def _status(self, request: web.Request) -> web.Response:
        strong = request.query.get("consistency") == "strong"
        self.strong += strong
        if strong and (self.leader is None or self.deposed):
            return problem("no-leader", 503, retryable=True)
        for each in self.members.values():
            if not each["voter"] and self.lags:
                lag = self.lags.pop(0)
                each |= {"connected": True, "match_index": 5000 - lag, "lag": lag, "caught_up": lag == 0}
        zones = {
            each["zone"]: {"voters": [each["id"]], "can_lose": each["zone"] != "a", "why": "n2 is away"}
            for each in self.members.values()
        }
        warnings = [{"kind": "even-voters", "detail": "4 voters survive no more"}]
        status = {"cluster": "c", "node": "n0", "leader": self.leader, "quorum": 2, "term": 1}
        members = list(self.members.values())
        return web.json_response({**status, "members": members, "zones": zones, "warnings": warnings})

    def _promote(self, member_id: str) -> web.Response:
        if not self.members[member_id]["caught_up"]:
            return problem("member-not-caught-up", 409, retryable=False)
        self.members[member_id]["voter"] = True
        return web.json_response({**CHANGED, "id": member_id})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Served in a thread: commands block the one they run in."""
    made, up, over = Server(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await made.answer(request)

        async with serving(answer) as made.url:
            up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert up.wait(10)
    monkeypatch.setattr(catching_up, "POLL_S", 0.01)
    yield made
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def stele(alone: Stele, server: Server, monkeypatch: pytest.MonkeyPatch) -> Stele:
    monkeypatch.setenv("STELE_ENDPOINTS", server.url)
    monkeypatch.setenv("STELE_TIMEOUT_S", "0.5")
    return alone


ADD = ["n3", "--zone", "d", "--raft", "h:1", "--http", "h:2"]
REPLACE = ["n2", "n3", "--raft", "h:1", "--http", "h:2"]


def test_status_shows_members_zones_and_warnings(stele: Stele) -> None:
    shown = stele("cluster", "status")
    assert shown.code == 0
    assert shown.err == "stele: warning: 4 voters survive no more\n"
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["n1", "b", "follower", "true", "true", "0", "h:1", "http://127.0.0.1:9"] in lines
    assert ["zone", "voters", "can_lose", "why"] in lines
    as_json = stele("cluster", "status", "-o", "json").json
    assert as_json["zones"]["a"] == {"voters": ["n0"], "can_lose": False, "why": "n2 is away"}
    assert len(stele("cluster", "status", "--members-only", "-o", "csv").out.splitlines()) == 4


def test_can_we_lose_a_zone(stele: Stele) -> None:
    no = stele("cluster", "status", "--lose", "a", "-o", "json")
    assert (no.code, no.json["can_lose"], no.json["why"]) == (4, False, "n2 is away")
    assert stele("cluster", "status", "--lose", "b", "-o", "json").code == 0
    unknown = stele("cluster", "status", "--lose", "x")
    assert (unknown.code, "there are a, b, c" in unknown.err) == (2, True)


def test_without_a_leader_the_node_that_answers_is_shown(stele: Stele, server: Server) -> None:
    server.leader = None
    shown = stele("cluster", "status", "-o", "json")
    assert (shown.code, "leader" in shown.json, server.strong) == (5, False, 0)
    assert "what node n0 sees" in shown.err
    assert stele("cluster", "status", "--lose", "b").code == 5
    server.leader, server.deposed = "n0", True
    assert stele("cluster", "status", "--members-only").code == 5
    assert server.strong > 0


def test_add_and_promote_waits_until_caught_up(stele: Stele, server: Server) -> None:
    server.lags = [4000, 1200, 0]
    added = stele("cluster", "add", *ADD, "--promote", "-o", "json")
    assert (added.code, added.json["voter"]) == (0, True)
    assert server.asked == ["POST", "POST n3/promote"]
    assert "n3: 4,000 entries behind" in added.err
    assert "n3 is a voter" in added.err


def test_promote_is_refused_at_once_unless_told_to_wait(stele: Stele, server: Server) -> None:
    assert stele("cluster", "add", *ADD, "-o", "json").json["voter"] is False
    refused = stele("cluster", "promote", "n3")
    assert (refused.code, "member-not-caught-up" in refused.err) == (4, True)
    late = stele("cluster", "promote", "n3", "--wait", "--wait-s", "0.05")
    assert (late.code, "not caught up within" in late.err) == (5, True)
    server.lags = [9, 0]
    assert stele("cluster", "promote", "n3", "--wait").code == 0


def test_remove(stele: Stele, server: Server) -> None:
    assert stele("cluster", "remove", "n2", "-o", "json").json == {"id": "n2", "removed": True}
    again = stele("cluster", "remove", "n2")
    assert (again.code, "member-removed" in again.err) == (3, True)
    assert stele("cluster", "remove", "n9").code == 3
    assert stele("cluster", "remove", "../x").code == 1


def test_replace_puts_the_new_one_in_before_the_old_one_goes(stele: Stele, server: Server) -> None:
    server.lags = [0]
    done = stele("cluster", "replace", *REPLACE, "-o", "json")
    assert (done.code, done.json["id"]) == (0, "n3")
    assert server.asked == ["POST", "POST n3/promote", "DELETE n2"]
    assert server.members["n3"]["zone"] == "c"
    # Broken off after the last step, and given again.
    assert stele("cluster", "replace", *REPLACE).code == 0
    assert sorted(server.members) == ["n0", "n1", "n3"]


def test_replace_says_what_cannot_be(stele: Stele, server: Server) -> None:
    assert stele("cluster", "replace", "n2", "n2", "--raft", "h:1", "--http", "h:2").code == 2
    assert stele("cluster", "replace", "n8", "n9", "--raft", "h:1", "--http", "h:2").code == 3
    assert server.asked == []


def test_an_answer_that_was_lost_does_not_make_a_removal_fail(
    stele: Stele, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends it again, and is told that there is no such member."""
    answer = server.answer
    lost: list[str] = []

    async def losing(request: web.Request) -> web.StreamResponse:
        done = await answer(request)
        if request.method == "DELETE" and not lost:
            lost.append(request.path)
            return problem("outcome-unknown", 503, retryable=True, headers={"Retry-After": "0"})
        return done

    monkeypatch.setattr(server, "answer", losing)
    assert stele("cluster", "remove", "n2").code == 0
    assert server.asked == ["DELETE n2", "DELETE n2"]
