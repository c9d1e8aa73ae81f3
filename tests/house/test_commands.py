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
DOCUMENT_TIMEOUT_S = 90.0

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
    finally:
        running.stop()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_commands_of_a_document_work(document: Path, cluster: Cluster, tmp_path: Path) -> None:
    script = "\n".join(BLOCK.findall(document.read_text(encoding="utf-8")))
    for number in range(NODES):
        script = script.replace(f"127.0.0.1:{SHOWN_PORT + number}", f"127.0.0.1:{cluster.port + number}")
    commands = Path(sys.executable).parent
    finished = subprocess.run(
        ["bash", "-xeuo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DOCUMENT_TIMEOUT_S,
    )
    assert finished.returncode == 0, f"{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"


def test_the_readme_shows_commands_to_try() -> None:
    assert ROOT / "README.md" in DOCUMENTS
