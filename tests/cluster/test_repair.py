"""Bits that flip in any file of a node: it says where, and how it gets the data back, and then it does."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node import limits
from storage import directory, fsck
from tests.cluster.members import Members

NODES = ("n0", "n1", "n2")


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    made = Members(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop_everything()


def database(members: Members, node_id: str) -> Path:
    return members.root / node_id / directory.STORE


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def repair(members: Members, node_id: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node.main", "repair", str(members.root / node_id), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rot_in_the_write_ahead_log(store: Path) -> str:
    file = max(store.glob("*.log"), key=lambda each: each.stat().st_size)
    flip(file, file.stat().st_size // 2)
    return file.name


def rot_in_the_manifest(store: Path) -> str:
    (file,) = store.glob("MANIFEST-*")
    flip(file, file.stat().st_size // 2)
    return file.name


def rot_in_the_footer_of_a_table(store: Path) -> str:
    file = max(store.glob("*.sst"), key=lambda each: each.stat().st_size)
    flip(file, file.stat().st_size - 1)
    return file.name


def rot_in_every_block_of_tables(store: Path) -> str:
    """Whatever is read first finds it: the log at the start, or a row of the state machine."""
    files = sorted(store.glob("*.sst"))
    for file in files:
        for at in range(100, file.stat().st_size - 2_000, 4_000):
            flip(file, at)
    return ".sst"


def rot_in_current(store: Path) -> str:
    flip(store / "CURRENT", 3)
    return "CURRENT"


def no_current(store: Path) -> str:
    """RocksDB takes such a directory for an empty one."""
    (store / "CURRENT").unlink()
    return "CURRENT"


ROT: list[Callable[[Path], str]] = [
    rot_in_the_write_ahead_log,
    rot_in_the_manifest,
    rot_in_the_footer_of_a_table,
    rot_in_every_block_of_tables,
    rot_in_current,
    no_current,
]


def rot_and_repair(members: Members, victim: str, rot: Callable[[Path], str], name: str) -> None:
    """A bit flips while the node is down; it says where, and does not start; repaired, it catches up."""
    members.kill(victim)
    cosigner_key = (members.root / victim / "cosigner-key.pem").read_bytes()
    file = rot(database(members, victim))
    said_before = len(members.log(victim))
    members.start(victim)
    members.until(lambda: members.ended(victim) is not None, f"{rot.__name__} is found")
    assert members.ended(victim) == limits.FATAL_EXIT_CODE
    said = members.log(victim)[said_before:]
    assert file in said, said[-2000:]
    assert f"steled repair {members.root / victim}" in said, said[-2000:]

    done = repair(members, victim)
    assert done.returncode == 0, done.stderr
    assert file in done.stdout
    members.start(victim)
    leader = members.leader()
    members.load(leader, name, 0.1)
    members.until(lambda: is_voter(members, victim), "it is a voter again")
    members.until(lambda: members.caught_up(victim, leader), "it has everything again")
    assert (members.root / victim / "cosigner-key.pem").read_bytes() == cosigner_key


def check_everything(members: Members) -> None:
    exports = [members.export(each) for each in NODES]
    assert exports[0] == exports[1] == exports[2]
    for node_id in NODES:
        members.stop(node_id)
        assert fsck.check(members.root / node_id).findings == []


def test_rot_in_the_write_ahead_log_is_named_and_repaired(members: Members) -> None:
    leader = members.leader()
    members.create(leader)
    members.load(leader, "before", 0.2)
    members.until(lambda: all(members.caught_up(each, leader) for each in NODES), "all have everything")
    rot_and_repair(members, leader, rot_in_the_write_ahead_log, "after")
    check_everything(members)
    refused = repair(members, leader)
    assert refused.returncode == 1
    assert "nothing is damaged" in refused.stderr
    assert database(members, leader).exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rot_in_any_file_is_named_and_repaired(members: Members) -> None:
    """One node after the other, in one cluster, with each kind of rot."""
    members.create(members.leader())
    chosen = random.Random(5)
    for number, rot in enumerate(ROT):
        leader, victim = members.leader(), chosen.choice(NODES)
        members.load(leader, f"table-{number}", 0.2)
        until_caught_up(members, victim, leader)
        members.stop(victim)  # In good order: tables are written.
        members.start(victim)
        leader = members.leader()
        members.load(leader, f"log-{number}", 0.1)
        until_caught_up(members, victim, leader)
        rot_and_repair(members, victim, rot, f"after-{number}")
    check_everything(members)
    assert sum(len(list((members.root / each).glob("damaged-*"))) for each in NODES) == len(ROT)


def until_caught_up(members: Members, node_id: str, leader: str) -> None:
    members.until(lambda: members.caught_up(node_id, leader), f"{node_id} has everything")


def is_voter(members: Members, node_id: str) -> bool:
    status, cluster = members.ask(members.leader(), "GET", "/v1/cluster")
    return status == 200 and any(each["id"] == node_id and each["voter"] for each in cluster["members"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_repairing_everybody_founds_no_empty_cluster(members: Members) -> None:
    """Whose data is gone from all disks is on none, and a new history must not take its name."""
    leader = members.leader()
    members.create(leader)
    for node_id in NODES:
        members.stop(node_id)
        assert repair(members, node_id, "--force").returncode == 0
    members.start()
    members.until(
        lambda: all(members.ask(each, "GET", "/readyz")[1] is not None for each in NODES), "they answer"
    )
    for node_id in NODES:
        status, problem = members.ask(node_id, "GET", "/readyz")
        assert (status, problem["type"]) == (503, "urn:stele:problem:not-a-member")
    # An operator who knows better brings the databases back.
    for node_id in NODES:
        members.stop(node_id)
        (aside,) = (members.root / node_id).glob("damaged-*")
        (members.root / node_id / directory.STORE).rename(members.root / node_id / "empty")
        aside.rename(members.root / node_id / directory.STORE)
    members.start()
    assert members.size(members.leader()) > 0
