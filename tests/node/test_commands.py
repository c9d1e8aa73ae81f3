"""`steled fsck`, `--version`, and a node that cannot start."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import node as node_package
from node.app import StartFailed
from storage.store import Store
from tests.node.served import ServedNode
from tests.node.test_config import steled


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a node that has some data and was stopped."""
    node = ServedNode(tmp_path_factory.mktemp("stopped")).start()
    node.ledger("books")
    for n in range(20):
        node.ask("PUT", f"/v1/ledgers/books/tables/cars/documents/{n}", {"n": n})
    node.stop()
    return node.config.data_dir


# Four blocks and three revisions of these are the node's own: the journal of its keys.
def test_fsck_of_sound_data_exits_0(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steled("fsck", str(stopped)) == 0
    assert "26 blocks, 24 revisions: sound" in capsys.readouterr().out


def test_fsck_reports_as_json(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steled("fsck", str(stopped), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["sound"], report["blocks"], report["findings"]) == (True, 26, [])


def test_fsck_names_damage_and_exits_1(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    table = max(tmp_path.rglob("*.sst"), key=lambda each: each.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 1
    table.write_bytes(data)
    assert steled("fsck", str(tmp_path)) == 1
    assert "findings" in capsys.readouterr().out


def test_fsck_names_a_damaged_raft_log(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    store = Store.open(tmp_path)
    key, record = list(store.raft_rows.scan(b"e", b"f"))[-1]
    store.raft_rows.write([(key, record[:-1] + bytes([record[-1] ^ 1]))])
    store.close()
    assert steled("fsck", str(tmp_path)) == 1
    assert "Raft log: entry" in capsys.readouterr().out


def test_fsck_of_what_is_no_store_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steled("fsck", str(tmp_path)) == 2
    assert "there is no store in it" in capsys.readouterr().err


def test_fsck_of_a_demo_checks_each_of_its_nodes(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("n0", "n1"):
        shutil.copytree(stopped, tmp_path / name / "data")
    assert steled("fsck", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{tmp_path}/{name}/data" for name in ("n0", "n1")]

    for damaged in (tmp_path / "n1" / "data" / "store").glob("*.sst"):
        damaged.unlink()
    assert steled("fsck", str(tmp_path), "--json") == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["sound"], second["sound"]) == (True, False)
    assert steled("fsck", str(tmp_path / "n0")) == 0


def test_fsck_of_a_running_node_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = ServedNode(tmp_path).start()
    try:
        # RocksDB's lock is one a process, so the check must run in another one.
        checked = subprocess.run(
            [sys.executable, "-m", "node.main", "fsck", str(node.config.data_dir)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert checked.returncode == 2
        assert b"in use" in checked.stderr
    finally:
        node.stop()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert steled("--version") == 0
    assert capsys.readouterr().out.strip() == node_package.__version__


@pytest.mark.parametrize("field", ["http_port", "raft_port"])
def test_a_port_in_use_is_said_clearly(tmp_path: Path, field: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        served = ServedNode(tmp_path, {field: taken.getsockname()[1]})
        with pytest.raises(StartFailed, match=f"{field}: port {taken.getsockname()[1]} is in use"):
            served.begin()
        served.halt()


def test_what_a_node_cannot_use_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    served = ServedNode(tmp_path, {"data_dir": tmp_path / "file"})
    with pytest.raises(StartFailed, match=r"data_dir: .*file cannot be used"):
        served.begin()
    served.halt()
    # An address that no machine has (RFC 5737).
    served = ServedNode(tmp_path, {"http_host": "192.0.2.1"})
    with pytest.raises(StartFailed, match=r"http_host: cannot listen on 192\.0\.2\.1"):
        served.begin()
    served.halt()
