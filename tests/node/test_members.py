"""Members come and go through the API: what is refused and why, and who passes requests on to whom.

Real nodes over plain TCP in this process; tests/cluster/test_members.py has processes over TLS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consensus.membership import Member, Membership
from node import limits
from node.config import Peer
from node.http.members import check_voters
from node.http.problems import Problem
from node.membership import ChangeInProgress, MembershipWatch
from tests.node.served import STARTED_WITHIN_S, Answer, ServedNode, free_port

MEMBERS = "/v1/cluster/members"


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class Cluster:
    """Nodes that found a cluster, and nodes that wait to join it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.founders = tuple(self._peer(f"n{number}") for number in range(3))
        self.nodes = {peer.id: self._node(peer, self.founders) for peer in self.founders}
        for node in self.nodes.values():
            node.begin()
        for node in self.nodes.values():
            node.until_ready()

    def _peer(self, node_id: str) -> Peer:
        http, raft = free_port(), free_port()
        return Peer(
            id=node_id,
            zone=f"zone-{node_id}",
            raft_host="127.0.0.1",
            raft_port=raft,
            http_url=f"http://127.0.0.1:{http}",
        )

    def _node(self, peer: Peer, peers: tuple[Peer, ...], **settings: Any) -> ServedNode:
        port = int(peer.http_url.rpartition(":")[2])
        own = {"node_id": peer.id, "zone": peer.zone, "data_dir": self.directory / peer.id, "peers": peers}
        return ServedNode(self.directory, {**own, "http_port": port, "raft_port": peer.raft_port, **settings})

    def join(self, node_id: str) -> dict[str, str]:
        """Starts a node that waits; what to add it with."""
        peer = self._peer(node_id)
        # It knows one member only: of the others the log tells.
        self.nodes[node_id] = self._node(peer, self.founders[:1], join=True)
        self.nodes[node_id].begin()
        raft = f"127.0.0.1:{peer.raft_port}"
        return {"id": node_id, "zone": peer.zone, "raft": raft, "http": peer.http_url}

    def status(self) -> Any:
        """As the leader sees it, asked of a node that stays."""
        return self.nodes["n0"].ask("GET", "/v1/cluster?consistency=strong").json

    def member(self, node_id: str) -> Any:
        return next((each for each in self.status()["members"] if each["id"] == node_id), None)

    def leader(self) -> ServedNode:
        return self.nodes[until(lambda: self.status().get("leader"), "nobody leads")]

    def promote(self, node_id: str) -> None:
        until(lambda: self.member(node_id)["caught_up"], f"{node_id} does not catch up")
        assert self.nodes["n0"].ask("POST", f"{MEMBERS}/{node_id}/promote").json["voter"] is True

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.running:
                node.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("members"))
    made.nodes["n0"].ledger("books")
    yield made
    made.stop()


NEW = {"id": "n9", "zone": "z", "raft": "127.0.0.1:1", "http": "127.0.0.1:2"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": "n/9"}, "id"),
        ({"id": ""}, "id"),
        ({"zone": "a zone"}, "zone"),
        ({"raft": "127.0.0.1"}, "raft"),
        ({"raft": "127.0.0.1:0"}, "raft"),
        ({"raft": "127.0.0.1:65536"}, "raft"),
        ({"raft": "127.0.0.1 :1"}, "raft"),
        ({"raft": "[127.0.0.1:1"}, "raft"),
        ({"raft": "example.org:1"}, "raft"),
        ({"http": "ftp://x:1"}, "http"),
        ({"http": "http://x:1/path"}, "http"),
        ({"http": "x:99999"}, "http"),
        ({"http": "a" * 250 + ":1"}, "http"),
        ({"voter": True}, "voter"),
        ({"port": 1}, "port"),
    ],
)
def test_a_member_that_cannot_be_reached_is_not_added(
    cluster: Cluster, wrong: dict[str, Any], field: str
) -> None:
    for node in cluster.nodes.values():
        refused = node.ask("POST", MEMBERS, {**NEW, **wrong})
        assert (refused.status, refused.slug, refused.json["field"]) == (422, "invalid-field", field)
    assert len(cluster.status()["members"]) == 3


def test_bodies_that_are_none(cluster: Cluster) -> None:
    node = cluster.nodes["n0"]
    assert node.ask("POST", MEMBERS, b"").slug == "invalid-json"
    assert node.ask("POST", MEMBERS, b"[]").slug == "not-an-object"
    assert node.ask("POST", MEMBERS, {"id": "n9"}).json["field"] == "zone"
    assert node.ask("GET", "/v1/cluster?consistency=weak").slug == "invalid-parameter"
    assert node.ask("PUT", MEMBERS, NEW).slug == "method-not-allowed"


def test_what_is_no_member_or_has_what_another_one_has(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        for method, path in (("DELETE", f"{MEMBERS}/n9"), ("POST", f"{MEMBERS}/n9/promote")):
            refused = node.ask(method, path)
            assert (refused.status, refused.slug) == (404, "member-unknown")
        assert node.ask("DELETE", f"{MEMBERS}/..%2Fn0").slug == "invalid-name"
    taken = cluster.member("n1")
    node = cluster.nodes["n0"]
    conflicts = [
        ({**NEW, "id": "n1"}, "member-exists"),
        ({**NEW, "raft": taken["raft"]}, "address-in-use"),
        ({**NEW, "http": taken["http"]}, "address-in-use"),
    ]
    for body, slug in conflicts:
        refused = node.ask("POST", MEMBERS, body)
        assert (refused.status, refused.slug, refused.json["retryable"]) == (409, slug, False)


def test_a_member_comes_leads_and_goes(cluster: Cluster) -> None:
    add_and_promote(cluster)
    pass_requests_on(cluster)
    show_metrics(cluster)
    remove_the_leader(cluster)


def add_and_promote(cluster: Cluster) -> None:
    new = cluster.join("n3")
    joining = cluster.nodes["n3"]
    assert joining.ask("GET", "/readyz").slug == "not-a-member"
    assert joining.ask("GET", "/v1/cluster").json["members"] == []
    assert joining.ask("PUT", "/v1/ledgers/books/tables/cars/documents/early", {"n": 1}).slug == "no-leader"

    added = cluster.nodes["n1"].ask("POST", MEMBERS, new)
    assert (added.status, added.headers["Location"]) == (201, f"{MEMBERS}/n3")
    assert added.json == {**new, "voter": False}
    for node_id in ("n0", "n1", "n2"):  # A request that is repeated changes nothing.
        again = cluster.nodes[node_id].ask(
            "POST", MEMBERS, {**new, "http": new["http"].removeprefix("http://")}
        )
        assert (again.status, again.json) == (200, {**new, "voter": False})
    moved = cluster.nodes["n0"].ask("POST", MEMBERS, {**new, "zone": "elsewhere"})
    assert moved.slug == "member-exists"

    joining.until_ready()
    shown = cluster.member("n3")
    assert (shown["role"], shown["voter"], cluster.status()["quorum"]) == ("learner", False, 2)
    refused = cluster.nodes["n0"].ask("POST", "/v1/cluster/transfer", {"target": "n3"})
    assert (refused.slug, refused.json["field"]) == ("invalid-field", "target")
    cluster.promote("n3")
    for _ in range(2):
        assert cluster.nodes["n0"].ask("POST", f"{MEMBERS}/n3/promote").json["voter"] is True
    assert cluster.status()["quorum"] == 3
    assert "even-voters" in [warning["kind"] for warning in cluster.status()["warnings"]]


def written_through(node: ServedNode, key: str) -> Answer:
    return node.ask("PUT", f"/v1/ledgers/books/tables/cars/documents/{key}", {"n": 1})


def led_by(node: ServedNode, leader_id: str) -> bool:
    return bool(node.ask("GET", "/v1/cluster").json["leader"] == leader_id)


def pass_requests_on(cluster: Cluster) -> None:
    written = written_through(cluster.nodes["n3"], "through-n3")
    assert (written.status, written.headers["X-Stele-Node"]) == (201, cluster.leader().config.node_id)
    led = cluster.nodes["n3"].ask("POST", "/v1/cluster/transfer", {"target": "n3"})
    assert led.json == {"leader": "n3"}
    for node in cluster.nodes.values():
        until(partial(led_by, node, "n3"), "n3 is not known to lead")
        written = written_through(node, f"to-n3-from-{node.config.node_id}")
        assert (written.status, written.headers["X-Stele-Node"]) == (201, "n3")


def show_metrics(cluster: Cluster) -> None:
    text = cluster.nodes["n3"].ask("GET", "/metrics").body.decode()
    for line in (
        'stele_raft_members{kind="voter"} 4.0',
        'stele_raft_members{kind="learner"} 0.0',
        "stele_raft_is_voter 1.0",
        "stele_raft_is_member 1.0",
        'stele_raft_member_connected{peer="n0"} 1.0',
        'stele_raft_member_snapshotting{peer="n0"} 0.0',
        'stele_raft_follower_lag_entries{peer="n0"}',
        "stele_raft_membership_pending 0.0",
        "stele_raft_membership_changes_total",
    ):
        assert f"\n{line}" in text


def remove_the_leader(cluster: Cluster) -> None:
    gone = cluster.nodes["n3"].ask("DELETE", f"{MEMBERS}/n3")
    assert (gone.status, gone.body) == (204, b"")
    until(lambda: cluster.status().get("leader") in {"n0", "n1", "n2"}, "nobody took over")
    assert cluster.member("n3") is None
    for node_id in ("n0", "n1", "n2"):
        for method, path in (("DELETE", f"{MEMBERS}/n3"), ("POST", f"{MEMBERS}/n3/promote")):
            again = cluster.nodes[node_id].ask(method, path)
            assert (again.status, again.slug) == (404, "member-removed")
    back = cluster.nodes["n0"].ask("POST", MEMBERS, {**NEW, "id": "n3"})
    assert (back.status, back.slug) == (409, "member-retired")
    assert written_through(cluster.nodes["n0"], "after").status == 201
    removed = cluster.nodes["n3"]
    until(lambda: removed.ask("GET", "/readyz").status == 503, "the removed node takes itself for ready")
    until(lambda: written_through(removed, "through-removed").slug == "no-leader", "it passes requests on")
    assert "stele_raft_is_voter 0.0" in removed.ask("GET", "/metrics").body.decode()
    removed.stop()


def test_more_voters_than_do_any_good_are_refused() -> None:
    def of(count: int) -> Membership:
        return Membership(tuple(Member(f"n{n}", "z", "h", n, voter=True) for n in range(count)))

    check_voters(of(limits.VOTERS_MAX - 1))
    with pytest.raises(Problem, match="too-many-members"):
        check_voters(of(limits.VOTERS_MAX))


class Pending:
    """A replica whose change is committed when somebody says so."""

    def __init__(self) -> None:
        self.membership = Membership((Member("n0", "z", "h", 1),))
        self.membership_committed = False
        self.told: list[Callable[[Membership], None]] = []

    def on_membership(self, callback: Callable[[Membership], None]) -> None:
        self.told.append(callback)


async def test_a_change_waits_for_the_one_before_it_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Pending()
    changes: list[Membership] = []
    watch = MembershipWatch(replica, lambda: changes.append(replica.membership))
    watch.start()
    waiting = asyncio.create_task(watch.settled())
    await asyncio.sleep(0)
    replica.membership = Membership((Member("n1", "z", "h", 1),))
    replica.told[0](replica.membership)
    await asyncio.sleep(0)
    assert not waiting.done()
    replica.membership_committed = True
    replica.told[0](replica.membership)
    assert await waiting == replica.membership
    assert changes == [replica.membership]
    replica.membership_committed = False
    monkeypatch.setattr(limits, "MEMBERSHIP_SETTLE_TIMEOUT_S", 0.01)
    with pytest.raises(ChangeInProgress):
        await watch.settled()


def test_no_change_that_the_rest_could_not_commit(cluster: Cluster) -> None:
    """The last test of the module: it stops a node."""
    stays = cluster.leader().config.node_id
    away, removed = sorted({"n0", "n1", "n2"} - {stays})
    cluster.nodes[away].stop()
    leader = cluster.nodes[stays]

    def status() -> Any:
        return leader.ask("GET", "/v1/cluster?consistency=strong").json

    until(lambda: "member-down" in [each["kind"] for each in status()["warnings"]], "nobody misses it")
    refused = leader.ask("DELETE", f"{MEMBERS}/{removed}")
    assert (refused.status, refused.slug) == (409, "quorum-at-risk")
    assert away in refused.json["detail"]
    zones = {zone: found["can_lose"] for zone, found in status()["zones"].items()}
    assert zones == {f"zone-{away}": True, f"zone-{stays}": False, f"zone-{removed}": False}
    # The dead one can go, and then there are two, of whom both are needed.
    assert leader.ask("DELETE", f"{MEMBERS}/{away}").status == 204
    assert status()["quorum"] == 2
    assert leader.ask("DELETE", f"{MEMBERS}/{removed}").status == 204
    last = leader.ask("DELETE", f"{MEMBERS}/{stays}")
    assert (last.status, last.slug) == (409, "last-voter")
    assert written_through(leader, "alone").status == 201
