"""Every command that the documents show works: blocks fenced with ```sh run against a demo cluster.

A document is run from top to bottom in one shell that stops at the first failure. What cannot run here (it
never ends, or needs a machine of its own) is fenced with ```console or ```text.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.house.tree import ROOT, relative

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_PORT = 7400
NODES = 3
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
    finished = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
    )
    assert finished.returncode == 0, f"{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"


@pytest.mark.timeout(SCRIPT_TIMEOUT_S + 20)
@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_of_a_document_work(document: Path, cluster: Cluster, tmp_path: Path) -> None:
    script = "\n".join(BLOCK.findall(document.read_text(encoding="utf-8")))
    for number in range(NODES):
        script = script.replace(f"127.0.0.1:{SHOWN_PORT + number}", f"127.0.0.1:{cluster.port + number}")
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
