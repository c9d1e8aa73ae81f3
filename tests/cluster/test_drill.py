"""`stele drill tamper`: real damage to a node of a demo cluster, noticed by whom it concerns, and healed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stele.cli.drill_desk import DemoNode
from stele.cli.drill_looks import serves
from stele.cli.main import run
from stele.client import BlockingClient
from storage import fsck
from tests.cluster.cluster import Cluster, wait_until

pytestmark = pytest.mark.timeout(260)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("drill"))
    made.start()
    try:
        yield made
        made.stop()
        # Whatever was done to them, they are whole.
        assert [fsck.check(store).findings for store in made.stores()] == [[], [], []]
    finally:
        made.kill_everything()


class Drilled(NamedTuple):
    code: int
    out: str
    err: str


Drill = Callable[..., Drilled]


@pytest.fixture
def drill(capfd: pytest.CaptureFixture[str]) -> Drill:
    """Runs the command in this process."""

    def run_drill(directory: Path, *arguments: str) -> Drilled:
        capfd.readouterr()
        code = run(["drill", "tamper", str(directory), *arguments, "-o", "json"])
        captured = capfd.readouterr()
        return Drilled(code, captured.out, captured.err)

    return run_drill


Looks = dict[str, tuple[bool, str]]


def noticed(drill: Drill, cluster: Cluster, *arguments: str) -> tuple[dict[str, Any], Looks]:
    done = drill(cluster.data, *arguments)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    return found, {look["who"]: (look["noticed"], look["how"]) for look in found["looks"]}


def listed_ledgers(cluster: Cluster) -> list[str]:
    with BlockingClient([cluster.nodes()[0].http]) as client:
        return [each.name for each in client.ledgers()]


def test_altered_content_is_noticed_by_client_auditor_and_the_node_itself(
    drill: Drill, cluster: Cluster
) -> None:
    found, looks = noticed(drill, cluster, "--node", "n1")
    assert (found["node"], found["before"] ^ found["after"]) == ("n1", 1)
    assert "its content" in found["altered"]
    assert looks["client"][0]
    assert "commitment to the data" in looks["client"][1]
    assert looks["auditor"][0]
    assert "commitment" in looks["auditor"][1]
    assert looks["peers"][0] is False
    assert looks["n1"][0]
    assert "exit code 70" in looks["n1"][1]
    assert "the scrub found damage" in looks["n1"][1]
    assert "is not what its leaf commits to" in looks["n1"][1]
    assert not [name for name in listed_ledgers(cluster) if name.startswith("drill-")]
    assert not list(cluster.data.glob("n*/altered"))


def test_nothing_but_a_running_demo_is_drilled(drill: Drill, cluster: Cluster, tmp_path: Path) -> None:
    """A node's own directory is none, and neither is a socket's name that nobody listens on."""
    (tmp_path / "drill.sock").touch()
    for directory in (tmp_path / "absent", tmp_path, cluster.data / "n0", cluster.data / "n0" / "data"):
        done = drill(directory)
        assert done.code == 1
        assert "is not the data directory of a demo cluster that runs" in done.err
    assert drill(cluster.data, "--node", "n7").code == 2
    done = drill(cluster.data, "--byte", "1000000")
    assert (done.code, "and no byte 1000000" in done.err) == (1, True)
    assert (cluster.data / "drill.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_an_altered_current_row_makes_another_journal_which_the_peers_see(
    drill: Drill, cluster: Cluster
) -> None:
    _, looks = noticed(drill, cluster, "--what", "current")
    assert looks["client"][0] is False
    assert looks["client, after one more write"][0]
    assert looks["auditor, after one more write"][0]
    assert "has cosigned another root" in looks["peers"][1]
    (node,) = looks.keys() & {"n0", "n1", "n2"}
    assert looks[node][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("block", "fsck names the block or tile"),
        ("tile", "fsck names the block or tile"),
        ("bucket", "fsck names the bucket"),
        ("checkpoint", "but a checkpoint that was signed here begins"),
        ("file", "checksum mismatch"),
    ],
)
def test_what_a_node_notices_before_it_serves(drill: Drill, cluster: Cluster, what: str, says: str) -> None:
    _, looks = noticed(drill, cluster, "--what", what, "--node", "n2")
    assert looks["n2"][0]
    assert says in looks["n2"][1]


@pytest.mark.slow
def test_whoever_hangs_up_has_the_node_healed(cluster: Cluster) -> None:
    with socket.socket(socket.AF_UNIX) as desk:
        here = os.open(cluster.data, os.O_RDONLY)
        try:
            desk.connect(f"/proc/self/fd/{here}/drill.sock")
        finally:
            os.close(here)
        asked = {"do": "alter", "node": "n1", "kind": "revision", "ledger": "sample", "table": "vehicles"}
        desk.sendall(json.dumps({**asked, "key": "1CASTELL000000001"}).encode() + b"\n")
        assert b'"where"' in desk.recv(1 << 16)
    assert (cluster.data / "n1" / "altered").exists()
    wait_until(lambda: not (cluster.data / "n1" / "altered").exists(), 60, "the node is healed")
    n1 = DemoNode("n1", cluster.nodes()[1].http)
    wait_until(lambda: asyncio.run(serves(n1)), 60, "the node serves")


@pytest.mark.slow
def test_what_a_demo_that_died_left_altered_begins_anew(cluster: Cluster) -> None:
    cluster.stop()
    (cluster.data / "n2" / "altered").touch()
    store = cluster.data / "n2" / "data" / "store"
    before = store.stat().st_ino
    cluster.start()
    assert not (cluster.data / "n2" / "altered").exists()
    assert store.stat().st_ino != before
    assert "n2 was left altered by a drill" in (cluster.root / "demo.log").read_text()
