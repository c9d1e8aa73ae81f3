"""Nodes that are too far behind for the log come back by snapshot, by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import fsck
from tests.cluster.members import Members


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path, log_retained_mib=1)
    made.start()
    try:
        yield made
    finally:
        made.stop_everything()


def others(leader: str) -> list[str]:
    return [each for each in ("n0", "n1", "n2") if each != leader]


def outgrow(members: Members, absent: str, leader: str) -> None:
    """Writes until the log that the leader keeps no longer has what the absent node needs."""
    members.load(leader, f"without-{absent}", 4)
    members.until(lambda: members.first_index(leader) > 8, "the leader's log is cut")


def test_a_node_that_was_down_for_longer_than_the_log_is_kept(members: Members) -> None:
    leader = members.leader()
    members.create(leader)
    members.load(leader, "before", 0.1)
    down, witness = others(leader)
    members.until(lambda: members.caught_up(down, leader), "everybody has the beginning")
    members.kill(down)
    outgrow(members, down, leader)
    members.start(down)
    members.until(lambda: members.caught_up(down, leader), "the node has caught up")
    assert "installing a snapshot" in members.log(down)
    members.load(leader, "after", 0.1)
    members.until(lambda: members.caught_up(down, leader), "the node follows the log")
    assert members.export(down) == members.export(leader)
    # It counts again: with it and one other there is a majority.
    members.kill(witness)
    members.load(leader, "majority", 0.1)
    members.stop_everything()
    for node_id in ("n0", "n1", "n2"):
        assert fsck.check(members.root / node_id).findings == []
    assert not (members.root / leader / "checkpoint").exists()
