"""`steled demo`: real processes that are kept alive, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node import sample
from node.signing_keys import load_log_keys
from tests.node.served import free_port
from tests.node.test_config import steled

WITHIN_S = 40.0


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Demo:
    """A demo cluster of one node, in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ready_file = directory / "ready.json"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, port: int) -> list[str]:
        options = ["--nodes", "1", "--data", str(self.directory / "data"), "--port", str(port)]
        return [sys.executable, "-m", "node.main", "demo", *options, "--ready-file", str(self.ready_file)]

    def start(self) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with (self.directory / "demo.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(self.port), stdout=log, stderr=log, env=environment)
        return dict(until(self.ready, "the demo did not come up"))

    def ready(self) -> dict[str, Any]:
        """What the ready file says; empty while there is none, or one that is not ours."""
        try:
            found: dict[str, Any] = json.loads(self.ready_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return found

    @property
    def node_pid(self) -> int:
        return int(self.ready()["nodes"][0]["pid"])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def serves(self) -> bool:
        try:
            return bool(self.get("/readyz"))
        except OSError:
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(WITHIN_S)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.signal(signal.SIGKILL)


def test_a_demo_serves_a_sample_restarts_its_nodes_and_goes_on_with_its_data(demo: Demo) -> None:
    demo.ready_file.write_text("what another demo left behind")
    ready = demo.start()
    # Exactly these members: programs wait for this file and read it.
    assert ready.keys() == {"nodes", "ledger", "verifier_key"}
    assert [node.keys() for node in ready["nodes"]] == [{"id", "zone", "http", "pid"}]
    assert [(node["id"], node["zone"]) for node in ready["nodes"]] == [("n0", "zone-a")]
    ledger = demo.get(f"/v1/ledgers/{ready['ledger']}")
    assert ledger["verifier_key"] == ready["verifier_key"]
    path = f"/v1/ledgers/{sample.LEDGER}/tables/{sample.TABLE}/documents/{sample.FIRST_VIN}"
    assert len(demo.get(f"{path}/history")["revisions"]) > 1

    first_pid = demo.node_pid
    os.kill(first_pid, signal.SIGKILL)
    until(lambda: demo.node_pid != first_pid, "the node was not started again")
    until(demo.serves, "the node that was started again does not serve")
    assert demo.get(f"/v1/ledgers/{sample.LEDGER}") == ledger

    node_pid = demo.node_pid
    demo.signal(signal.SIGTERM)
    assert demo.process is not None
    assert demo.process.returncode == 0
    assert not alive(node_pid)
    assert not demo.ready_file.exists()

    demo.start()
    assert demo.get(f"/v1/ledgers/{sample.LEDGER}") == ledger
    node_pid = demo.node_pid
    demo.signal(signal.SIGKILL)
    until(lambda: not alive(node_pid), "the node outlived its supervisor")


def test_a_port_in_use_and_a_directory_in_use_are_said_clearly(demo: Demo) -> None:
    demo.start()
    other = Demo(demo.directory)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def says(command: list[str]) -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stderr

    code, said = says(other.command(other.port))
    assert (code, "another demo runs on" in said) == (1, True)
    command = [argument.replace("/data", "/other") for argument in other.command(demo.port)]
    code, said = says(command)
    assert (code, f"{demo.port} is in use" in said) == (1, True)
    assert not (demo.directory / "other").exists()
    demo.signal(signal.SIGINT)
    code, said = says(
        [argument.replace("1", "2") if argument == "1" else argument for argument in demo.command(1)]
    )
    assert (code, "holds a cluster of 1 nodes, not 2" in said) == (1, True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--data", "{}/file"], 1, "data: {}/file cannot be used"),
        (["--data", "{}/new", "--ready-file", "{}/nowhere/ready"], 1, "ready_file: {}/nowhere/ready cannot"),
        (["--data", "{}/new", "--ready-file", "{}"], 1, "ready_file: {} cannot"),
        (["--data", "{}/new", "--seal-interval-s", "-1"], 2, "seal_interval_s: must be"),
        (["--data", "{}/new", "--nodes", "0"], 2, "nodes: must be"),
        (["--data", "{}/new", "--port", "0"], 2, "port: must be 1 to"),
        (["--data", "{}/new", "--colour", "red"], 2, "Unknown option"),
    ],
)
def test_a_demo_that_cannot_run_says_why_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "new").mkdir()
    arguments = [option.format(tmp_path) for option in options]
    assert steled("demo", *arguments) == code
    assert said.format(tmp_path) in capsys.readouterr().err
    assert not list(tmp_path.glob("new/n*"))


def test_keys_are_for_their_owner_only(demo: Demo) -> None:
    demo.start()
    key_file = demo.directory / "data" / "log-key.pem"
    keys = [key_file, *(demo.directory / "data" / "certificates").glob("*-key.pem")]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600] * 3
    load_log_keys(key_file)


def test_the_sample_is_always_the_same() -> None:
    lines = list(sample.lines())
    assert lines == list(sample.lines())
    keys = {json.loads(line)["key"] for line in lines}
    assert sample.FIRST_VIN in keys
    assert len(keys) >= 200
    assert len(lines) > len(keys)
