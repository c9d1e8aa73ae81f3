"""Checkpoints and inclusion proofs of a node, checked by npm's @sigstore/verify."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.served import ServedNode

READER = Path(__file__).with_name("sigstore_reader.js")
PACKAGE = "@sigstore/verify@3.1.1"
INSTALLED_WITHIN_S = 90
BLOCKS = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with @sigstore/verify, from the package registry that npm is set up for."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("npm")
    command = [
        "npm",
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        PACKAGE,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALLED_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry does not answer")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    served = ServedNode(tmp_path_factory.mktemp("node")).start()
    served.ledger("outside")
    lines = [{"key": "k", "data": {"n": n}} if n % 2 else {"op": "delete", "key": "k"} for n in range(1, 298)]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert served.ask("POST", "/v1/ledgers/outside/bulk?table=cars", body).status == 200
    assert served.ask("GET", "/v1/ledgers/outside/checkpoint").status == 200  # A seal, the last block.
    assert served.size("outside") == BLOCKS
    yield served
    served.stop()


def verdicts(packages: Path, cases: list[dict[str, Any]]) -> list[str | None]:
    done = subprocess.run(
        ["node", str(READER)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(packages)},
    )
    found: list[str | None] = json.loads(done.stdout)
    assert len(found) == len(cases)
    return found


def claims(node: ServedNode) -> list[dict[str, Any]]:
    """One for each block: its header from the entry bundles, the server's path, the signed checkpoint."""
    base = "/v1/ledgers/outside"
    key = node.ask("GET", base).json["verifier_key"]
    checkpoint = node.ask("GET", f"{base}/tlog/checkpoint").body.decode()
    found: list[dict[str, Any]] = []
    for tile in ("000", f"001.p/{BLOCKS - 256}"):
        bundle = node.ask("GET", f"{base}/tlog/tile/entries/{tile}").body
        while bundle:
            end = 2 + int.from_bytes(bundle[:2], "big")
            seq = len(found)
            path = node.ask("GET", f"{base}/proofs/inclusion?seq={seq}&size={BLOCKS}").json["path"]
            entry = bundle[2:end].hex()
            found.append({"key": key, "checkpoint": checkpoint, "index": seq, "entry": entry, "path": path})
            bundle = bundle[end:]
    return found


def test_sigstore_accepts_every_block_and_nothing_altered(packages: Path, node: ServedNode) -> None:
    good = claims(node)
    assert len(good) == BLOCKS
    assert verdicts(packages, good) == [None] * BLOCKS
    bad = []
    for number, claim in enumerate(good):
        path = list(claim["path"])
        path[number % len(path)] = path[number % len(path)][:-1] + (
            "0" if path[number % len(path)][-1] != "0" else "1"
        )
        bad += [
            {**claim, "path": path},
            {**claim, "path": claim["path"][:-1]},
            {**claim, "index": (number + 1) % BLOCKS},
            {**claim, "entry": claim["entry"] + "20"},
        ]
    size, root = good[0]["checkpoint"].split("\n")[1:3]
    forged = base64.b64encode(bytes(32)).decode()
    bad.append({**good[0], "checkpoint": good[0]["checkpoint"].replace(root, forged)})
    bad.append(
        {**good[0], "checkpoint": good[0]["checkpoint"].replace(f"\n{size}\n", f"\n{int(size) - 1}\n")}
    )
    assert None not in verdicts(packages, bad)
