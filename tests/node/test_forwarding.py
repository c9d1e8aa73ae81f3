"""Three real nodes: what only the leader can do is passed on to it, once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from node.config import Peer
from tests.node.served import STARTED_WITHIN_S, ServedNode, free_port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServedNode]]:
    ports = [(free_port(), free_port()) for _ in range(3)]
    peers = tuple(
        Peer(
            id=f"n{number}",
            zone=f"zone-{number}",
            raft_host="127.0.0.1",
            raft_port=raft_port,
            http_url=f"http://127.0.0.1:{http_port}",
        )
        for number, (http_port, raft_port) in enumerate(ports)
    )
    directory = tmp_path_factory.mktemp("cluster")
    nodes = [
        ServedNode(
            directory,
            {
                "node_id": peer.id,
                "data_dir": directory / peer.id,
                "peers": peers,
                "http_port": http_port,
                "raft_port": raft_port,
            },
        )
        for peer, (http_port, raft_port) in zip(peers, ports, strict=True)
    ]
    for node in nodes:
        node.begin()
    for node in nodes:
        node.until_ready()
    nodes[0].ledger("books")
    yield nodes
    for node in nodes:
        if node.running:
            node.stop()


def leader_and_follower(cluster: list[ServedNode]) -> tuple[ServedNode, ServedNode]:
    leader_id = cluster[0].ask("GET", "/v1/cluster").json["leader"]
    leader = next(node for node in cluster if node.config.node_id == leader_id)
    follower = next(node for node in cluster if node.config.node_id != leader_id)
    return leader, follower


def test_any_node_takes_a_write_and_a_strong_read(cluster: list[ServedNode]) -> None:
    leader, _ = leader_and_follower(cluster)
    for number, node in enumerate(cluster):
        path = f"/v1/ledgers/books/tables/cars/documents/%C3%A4%20{number}"
        written = node.ask("PUT", path, {"n": number}, {"X-Request-Id": f"r{number}"})
        assert (written.status, written.headers["ETag"], written.headers["Location"]) == (201, '"0"', path)
        assert written.headers["X-Stele-Node"] == leader.config.node_id
        assert written.headers["X-Request-Id"] == f"r{number}"
        for reader in cluster:
            assert reader.ask("GET", path).json["data"] == {"n": number}
            shown = reader.ask("GET", f"{path}?consistency=snapshot&min_seq={written.json['seq']}")
            assert shown.headers["X-Stele-Node"] == reader.config.node_id
            assert shown.json["data"] == {"n": number}


def test_a_page_served_by_a_follower_may_write_through_it(cluster: list[ServedNode]) -> None:
    _, follower = leader_and_follower(cluster)
    path = "/v1/ledgers/books/tables/cars/documents/from-a-page"
    assert follower.ask("PUT", path, {}, {"Origin": follower.url}).status == 201
    assert follower.ask("PUT", path, {}, {"Origin": "https://evil.example"}).slug == "cross-origin"


def test_a_tile_that_a_node_lacks_comes_from_the_leader(
    cluster: list[ServedNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = leader_and_follower(cluster)
    path = "/v1/ledgers/books/tlog/tile/entries/000.p/2"
    assert leader.ask("GET", "/v1/ledgers/books/checkpoint").status == 200
    deadline = time.monotonic() + STARTED_WITHIN_S
    while follower.node.services.store.sealed("books") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    expected = leader.ask("GET", path).body
    shown = follower.ask("GET", path)
    assert (shown.body, shown.headers["X-Stele-Node"]) == (expected, follower.config.node_id)
    with monkeypatch.context() as lagging:
        lagging.setattr(follower.node.services.store, "sealed", lambda _ledger: None)
        # The leader compresses for whom it answers, which is the follower, and the follower passes on bytes.
        passed_on = follower.ask("GET", path, headers={"Accept-Encoding": "gzip"})
        assert (passed_on.body, passed_on.headers["X-Stele-Node"]) == (expected, leader.config.node_id)
        assert passed_on.headers["Cache-Control"] == shown.headers["Cache-Control"]
    assert follower.ask("GET", "/v1/ledgers/books/tlog/tile/0/000").slug == "tile-unknown"


def test_problems_heads_and_large_answers_pass_through(cluster: list[ServedNode]) -> None:
    _, follower = leader_and_follower(cluster)
    path = "/v1/ledgers/books/tables/cars/documents/large"
    assert follower.ask("PUT", path, {"x": "a" * 1_000_000}).status == 201
    assert len(follower.ask("GET", path).body) > 1_000_000
    headed = follower.ask("HEAD", path)
    assert (headed.status, headed.body, headed.headers["ETag"]) == (200, b"", '"0"')
    assert follower.ask("PUT", path, b"{").slug == "invalid-json"
    assert follower.ask("PUT", path, b"x" * ((1 << 20) + 1)).status == 413
    assert follower.ask("PUT", path, {"n": 1}, {"If-Match": '"7"'}).slug == "version-mismatch"
    assert follower.ask("GET", path, headers={"If-None-Match": '"0"'}).status == 304
    assert follower.ask("GET", "/v1/ledgers/books/export").body.startswith(b'{"export":1')


def test_a_bulk_load_streams_through_a_follower(cluster: list[ServedNode]) -> None:
    _, follower = leader_and_follower(cluster)
    body = b"".join(b'{"table":"cars","key":"b%d","data":{"n":%d}}\n' % (n, n) for n in range(3000))
    answer = follower.ask("POST", "/v1/ledgers/books/bulk", body)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["line"] for line in lines[:-1]] == list(range(1, 3001))
    assert lines[-1] == {"done": True, "accepted": 3000, "refused": 0}


def test_a_sender_who_breaks_off_is_told_by_a_follower_too(cluster: list[ServedNode]) -> None:
    _, follower = leader_and_follower(cluster)

    def half_sent(method: str, path: str) -> bytes:
        head = f"{method} /v1/ledgers/books/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        return follower.raw(head.encode() + b'{"key":"half","data":{}}', half_close=True)

    answer = half_sent("PUT", "tables/cars/documents/half")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"urn:stele:problem:incomplete-body" in answer
    # An answer that began already can only break off.
    assert b'"done":true' not in half_sent("POST", "bulk?table=cars")
    assert follower.ask("GET", "/v1/ledgers/books/tables/cars/documents/half").slug == "not-found"


def test_a_follower_refuses_compressed_bodies_too(cluster: list[ServedNode]) -> None:
    _, follower = leader_and_follower(cluster)
    path = "/v1/ledgers/books/tables/cars/documents/compressed"
    assert follower.ask("PUT", path, b"{}", {"Content-Encoding": "gzip"}).slug == "unsupported-encoding"


def test_all_nodes_sign_the_same_checkpoint_and_have_the_same_blocks(cluster: list[ServedNode]) -> None:
    note = cluster[0].ask("GET", "/v1/ledgers/books/checkpoint").body
    size = int(note.split(b"\n")[1])
    exports = [
        node.ask("GET", f"/v1/ledgers/books/export?consistency=snapshot&min_seq={size - 1}&to={size}").body
        for node in cluster
    ]
    heads, blocks = zip(*(export.split(b"\n", 1) for export in exports), strict=True)
    assert blocks[0] == blocks[1] == blocks[2]
    # The log's signature is the same everywhere; each node adds the cosignatures that it has gathered.
    signed = {tuple(json.loads(head)["checkpoint"].split("\n")[:5]) for head in heads}
    assert signed == {tuple(note.decode().split("\n")[:5])}


def test_a_request_is_passed_on_once(cluster: list[ServedNode]) -> None:
    leader, follower = leader_and_follower(cluster)
    path = "/v1/ledgers/books/tables/cars/documents/once"
    refused = follower.ask("PUT", path, {"n": 1}, {"X-Stele-Forwarded": "n9"})
    assert (refused.status, refused.slug, refused.json["leader"]) == (503, "no-leader", leader.config.node_id)
    assert refused.headers["Retry-After"] == "1"
    assert leader.ask("PUT", path, {"n": 1}, {"X-Stele-Forwarded": "n9"}).status == 201


def test_any_node_hands_the_leadership_to_the_one_that_is_asked_for(cluster: list[ServedNode]) -> None:
    path = "/v1/cluster/transfer"
    leader, follower = leader_and_follower(cluster)
    target = follower.config.node_id
    for node in cluster:
        answer = node.ask("POST", path, {"target": target})
        assert (answer.status, answer.json) == (200, {"leader": target})
        assert follower.ask("GET", "/v1/cluster").json["leader"] == target
        until_known(cluster, target)
    written = leader.ask("PUT", "/v1/ledgers/books/tables/cars/documents/handed-over", {"n": 1})
    assert (written.status, written.headers["X-Stele-Node"]) == (201, target)
    assert follower.ask("POST", path).json["leader"] != target
    unknown = follower.ask("POST", path, {"target": "n9"})
    assert (unknown.status, unknown.slug, unknown.json["field"]) == (422, "invalid-field", "target")


def until_known(cluster: list[ServedNode], leader_id: str) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while any(node.ask("GET", "/v1/cluster").json["leader"] != leader_id for node in cluster):
        assert time.monotonic() < deadline


def test_a_leader_that_stops_hands_over_first(cluster: list[ServedNode]) -> None:
    """The last test but one of the module: it stops a node."""
    leader, _ = leader_and_follower(cluster)
    others = [node for node in cluster if node is not leader]
    leader.stop()
    # No election timeout passes: who is left knows the next leader already.
    leaders = {node.ask("GET", "/v1/cluster").json["leader"] for node in others}
    assert leaders < {node.config.node_id for node in others}


def test_without_a_majority_writes_are_refused_and_snapshots_still_read(cluster: list[ServedNode]) -> None:
    """The last test of the module: it stops all nodes but one."""
    leader, follower = leader_and_follower([node for node in cluster if node.running])
    leader.stop()
    path = "/v1/ledgers/books/tables/cars/documents/large"
    deadline = time.monotonic() + STARTED_WITHIN_S
    while follower.ask("GET", "/readyz").status == 200:
        # Until the follower notices, it passes requests on to a leader that is not there.
        # Or it is handed the leadership by a node that stops, and leads until it misses its majority.
        refused = follower.ask("PUT", path, {"n": 1})
        assert (refused.status, refused.slug) in {(503, "no-leader"), (503, "outcome-unknown")}
        assert time.monotonic() < deadline
    assert follower.ask("GET", "/readyz").slug == "no-leader"
    assert follower.ask("PUT", path, {"n": 1}).slug == "no-leader"
    assert follower.ask("GET", path).slug == "no-leader"
    assert follower.ask("GET", f"{path}?consistency=snapshot").status == 200
    assert follower.ask("GET", "/livez").status == 200
