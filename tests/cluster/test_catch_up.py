"""Nodes that are too far behind for the log come back by snapshot, by themselves."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import fsck
from tests.cluster.members import Members

STEPS = (
    "take",
    "own",
    "sync",
    "complete",
    "put the former away",
    "put the next in its place",
    "delete the former",
)


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
    members.load(leader, f"without-{absent}", 6)
    status, cluster = members.ask(leader, "GET", "/v1/cluster")
    assert status == 200
    members.until(lambda: members.first_index(leader) > cluster["commit_index"] - 8, "the log is cut")


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


def received_size_bytes(members: Members, node_id: str) -> int:
    files = members.root / node_id / "received" / "files"
    try:
        return sum(each.stat().st_size for each in files.iterdir())
    except FileNotFoundError:
        return 0


@pytest.fixture
def slow_members(tmp_path: Path) -> Iterator[Members]:
    """A snapshot takes seconds, so that there is time to kill somebody meanwhile."""
    made = Members(tmp_path, log_retained_mib=1, catch_up_rate_mib_s=1)
    made.start()
    try:
        yield made
    finally:
        made.stop_everything()


def begin_to_receive(members: Members) -> tuple[str, str, str]:
    """(leader, the node that receives a snapshot, the third), once a part of it has come."""
    leader = members.leader()
    members.create(leader)
    down, witness = others(leader)
    members.until(lambda: members.caught_up(down, leader), "everybody has the beginning")
    members.kill(down)
    outgrow(members, down, leader)
    members.load(leader, "more", 8)
    members.start(down)
    members.until(lambda: received_size_bytes(members, down) > 1 << 20, "a part of the snapshot has come")
    return leader, down, witness


@pytest.mark.slow
def test_kill_9_while_a_snapshot_comes(slow_members: Members) -> None:
    members = slow_members
    leader, down, _ = begin_to_receive(members)
    members.kill(down)
    came = received_size_bytes(members, down)
    members.start(down)
    members.until(lambda: received_size_bytes(members, down) > came, "more of the snapshot comes")
    members.until(lambda: members.caught_up(down, leader), "the node has caught up")
    assert members.export(down) == members.export(leader)
    # One snapshot was taken, and the second life of the node went on where the first had ended.
    assert members.log(leader).count("snapshot of entry") == 1
    assert members.log(down).count("snapshot received") == 1


@pytest.mark.slow
def test_kill_9_of_the_leader_while_it_sends_a_snapshot(slow_members: Members) -> None:
    """Another leader's snapshot is another one; with the third node gone, both that are left are needed."""
    members = slow_members
    leader, down, witness = begin_to_receive(members)
    members.kill(leader)
    members.until(lambda: members.leader(down, witness) == witness, "the third node leads")
    members.until(lambda: members.size(down) == members.size(witness) > 0, "the node has caught up")
    members.load(witness, "after", 0.1)
    members.start(leader)
    members.until(lambda: members.caught_up(leader, witness), "the former leader follows")
    assert members.export(down) == members.export(leader) == members.export(witness)


def test_a_node_whose_data_directory_was_wiped(members: Members) -> None:
    leader = members.leader()
    members.create(leader)
    wiped, witness = others(leader)
    members.load(leader, "before", 0.1)
    members.kill(wiped)
    outgrow(members, wiped, leader)
    shutil.rmtree(members.root / wiped)
    members.start(wiped)
    members.until(lambda: members.caught_up(wiped, leader), "the node has caught up")
    assert members.export(wiped) == members.export(leader)
    # It votes again, by itself: with it and one other there is a majority.
    members.kill(witness)
    members.load(leader, "majority", 0.1)


def install_and_die(members: Members, leader: str, step: str) -> None:
    """A node gets a snapshot, dies before the step, and comes back."""
    down, _ = others(leader)
    members.kill(down)
    outgrow(members, f"{down}-{step.replace(' ', '-')}", leader)
    members.start(down, module="tests.cluster.dying_node")
    members.until(lambda: members.ended(down) is not None, f"the node dies before: {step}")
    assert members.ended(down) == -signal.SIGKILL, members.log(down)[-2000:]
    members.start(down)
    members.until(lambda: members.caught_up(down, leader), f"it is back after: {step}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_kill_9_at_every_step_of_an_installation(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = members.leader()
    members.create(leader)
    for step in STEPS:
        monkeypatch.setenv("DIE_AT", step)
        install_and_die(members, leader, step)
    down, _ = others(leader)
    assert members.export(down) == members.export(leader)
    members.stop_everything()
    for node_id in members.http:
        assert fsck.check(members.root / node_id).findings == []
