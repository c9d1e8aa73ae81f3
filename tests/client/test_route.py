"""The order in which endpoints are asked."""

from __future__ import annotations

import pytest

from stele.client import ClusterStatus, Invalid
from stele.client.limits import ENDPOINT_DOWN_S
from stele.client.models import MemberStatus
from stele.client.route import Route, parse_endpoint

A, B, C = "http://a:1", "http://b:1", "http://c:1"


def status(leader: str | None) -> ClusterStatus:
    members = [MemberStatus(id=name, zone="z", http=url) for name, url in [("a", A), ("b", B), ("c", C)]]
    return ClusterStatus(cluster="c", node="a", members=members, leader=leader)


def test_the_leader_comes_first_and_the_failed_last() -> None:
    route = Route([A, B])
    assert route.order(0) == [A, B]
    route.answered(A, "c")
    assert route.refresh_due(0)
    route.learn(status("c"), 0)
    assert not route.refresh_due(0)
    assert route.order(0) == [C, A, B]
    route.failed(C, 10)
    assert route.order(10) == [A, B, C]
    assert route.refresh_due(10)
    assert sorted(route.order(10 + ENDPOINT_DOWN_S + 1)) == [A, B, C]


def test_a_leader_hint_is_followed() -> None:
    route = Route([A, B, C])
    route.learn(status("a"), 0)
    route.led_by("b")
    assert route.order(0)[0] == B
    route.led_by("unheard-of")
    assert not route.refresh_due(0.5)
    assert route.refresh_due(2)


def test_nodes_that_advertise_nothing_usable_are_left_out() -> None:
    route = Route([A])
    broken = ClusterStatus(
        cluster="c", node="a", members=[MemberStatus(id="b", zone="z", http="ftp://x")], leader="b"
    )
    route.learn(broken, 0)
    assert route.order(0) == [A]


@pytest.mark.parametrize(
    ("text", "url"),
    [("h:1", "http://h:1"), (" https://h ", "https://h"), ("http://[::1]:7400/", "http://[::1]:7400")],
)
def test_endpoints_are_written_in_one_way(text: str, url: str) -> None:
    assert parse_endpoint(text) == url


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://h", "http://h/path", "http://h:99999", "http://u@h", "h:x"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_endpoint(text)
    with pytest.raises(Invalid):
        Route([])
