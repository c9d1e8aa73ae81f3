"""Every command that the documents show works: blocks fenced with ```sh run against a demo cluster.

A document is run from top to bottom in one shell that stops at the first failure. What cannot run here (it
never ends, or needs a machine of its own) is fenced with ```console or ```text.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.cluster.cluster import Cluster
from tests.house.tree import ROOT, relative

BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SHOWN_PORT = 7400
RAFT_PORT_OFFSET = 100
NODES = 3
SHOWN_NODES = 5
"""The demo's, and nodes that documents add to it."""

SCRIPT_TIMEOUT_S = 280.0

DOCUMENTS = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if BLOCK.search(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("demo"), nodes=NODES)
    running.start()
    try:
        yield running
        running.stop()
    finally:
        running.kill_everything()


def run(script: str, *, folder: Path, home: Path, path: str) -> None:
    """Run a script in a shell that stops at the first failure; what it printed is in the error."""
    shell = subprocess.Popen(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = shell.communicate(timeout=SCRIPT_TIMEOUT_S)
    finally:
        # What it started in the background ends with it, also when it failed half way.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"


@pytest.mark.timeout(SCRIPT_TIMEOUT_S + 20)
@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_of_a_document_work(document: Path, cluster: Cluster, tmp_path: Path) -> None:
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    script = "\n".join(dedent(commands) for _, commands in blocks)
    for number in range(SHOWN_NODES):
        for offset in (0, RAFT_PORT_OFFSET):
            shown, real = SHOWN_PORT + offset + number, cluster.port + offset + number
            script = re.sub(rf"\b{shown}\b", str(real), script)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "demo").symlink_to(cluster.data)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(script, folder=tmp_path, home=tmp_path, path=path)


def test_commands_that_the_demo_prints_work(cluster: Cluster, tmp_path: Path) -> None:
    """As typed by someone who has just seen them, without the environment activated."""
    printed = (cluster.root / "demo.log").read_text(encoding="utf-8")
    commands = [line.strip() for line in printed.split("Try:\n", 1)[1].split("\n\n", 1)[0].splitlines()]
    assert len(commands) == 3
    # The demo runs in this folder too, so a relative path that it prints is right here.
    run("\n".join(commands), folder=Path.cwd(), home=tmp_path, path="/usr/local/bin:/usr/bin:/bin")


def test_the_readme_shows_commands_to_try() -> None:
    assert ROOT / "README.md" in DOCUMENTS
