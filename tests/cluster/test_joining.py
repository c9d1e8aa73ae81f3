"""A node that joins when the log no longer begins at the beginning gets a snapshot first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.members import Members
from tests.node.served import free_port

NEW = "n3"


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    # Slow enough that somebody who looks sees the snapshot on its way.
    made = Members(tmp_path, log_retained_mib=1, catch_up_rate_mib_s=4)
    made.start()
    try:
        yield made
    finally:
        made.stop_everything()


def join(members: Members, known: str) -> dict[str, str]:
    """Starts a node beside the three that knows one of them; what to add it with."""
    http, raft = free_port(), free_port()
    settings = (members.root / f"{known}.toml").read_text().splitlines()
    kept = [line for line in settings if line.split(" = ")[0] not in OWN]
    peers = json.loads(next(line for line in settings if line.startswith("peers = ")).partition(" = ")[2])
    own: dict[str, object] = {
        "node_id": NEW,
        "data_dir": str(members.root / NEW),
        "http_port": http,
        "raft_port": raft,
        "join": True,
        "peers": [peer for peer in peers if peer.startswith(f"{known},")],
    }
    lines = [*kept, *(f"{name} = {json.dumps(value)}" for name, value in own.items())]
    (members.root / f"{NEW}.toml").write_text("\n".join(lines) + "\n")
    members.http[NEW] = http
    members.start(NEW)
    return {"id": NEW, "zone": "zone-3", "raft": f"127.0.0.1:{raft}", "http": f"127.0.0.1:{http}"}


OWN = {"node_id", "data_dir", "http_port", "raft_port", "peers"}


@pytest.mark.slow
def test_a_node_that_joins_late_is_shown_getting_a_snapshot_and_then_votes(members: Members) -> None:
    leader = members.leader()
    members.create(leader)
    members.load(leader, "early", 8)
    members.until(lambda: members.first_index(leader) > 8, "the log is cut")
    new = join(members, leader)
    status, added = members.ask(leader, "POST", "/v1/cluster/members", json.dumps(new).encode())
    assert status == 201, added
    seen: list[dict[str, object]] = []

    def look() -> dict[str, object]:
        shown = members.ask(leader, "GET", "/v1/cluster?consistency=strong")[1]["members"]
        seen.append(next(member for member in shown if member["id"] == NEW))
        return seen[-1]

    members.until(lambda: bool(look()["caught_up"]), "the new node catches up")
    assert any(member["snapshotting"] for member in seen)
    assert not seen[-1]["snapshotting"]
    assert "installing a snapshot" in members.log(NEW)
    status, promoted = members.ask(NEW, "POST", f"/v1/cluster/members/{NEW}/promote")
    assert (status, promoted["voter"]) == (200, True)
    assert members.export(NEW) == members.export(leader)
