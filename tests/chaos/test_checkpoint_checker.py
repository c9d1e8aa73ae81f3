"""Checkpoints against the journal, leaks, and the disk that fails on command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.checkers import checkpoints, leaks
from chaos.checkers.leaks import Sample
from chaos.lab.disk import Disk, DiskMode, build
from chaos.workloads.verifying import Held
from stele.verify.checkpoint import Checkpoint

EXPORT = [b"{}", *(json.dumps({"header": {"seq": seq}, "revisions": []}).encode() for seq in range(9))]
ROOTS = checkpoints.roots_of(EXPORT[1:])


def held(size: int, root: bytes, node: str = "n0") -> Held:
    return Held(node, Checkpoint("c/l", size, root))


def promises(*seen: Held) -> list[str]:
    return [each.promise for each in checkpoints.check(seen, [], EXPORT[1:])]


def test_checkpoints_of_the_journal_are_right() -> None:
    assert promises(*(held(size, root) for size, root in enumerate(ROOTS))) == []


def test_wrong_checkpoints_are_found() -> None:
    assert promises(held(3, ROOTS[4])) == ["every pair of checkpoints is consistent"]
    assert promises(held(10, ROOTS[4])) == ["a checkpoint is of what is committed"]
    assert "no two roots for one size" in promises(held(3, ROOTS[3]), held(3, ROOTS[4], "n1"))


def test_what_grows_for_ever_leaks() -> None:
    def life(**growth: int) -> list[Sample]:
        first = Sample("n0", 1, 50, 9, 100 << 20)._asdict()
        return [
            Sample(
                **{name: value + growth.get(name, 0) * at for name, value in first.items() if name != "node"},
                node="n0",
            )
            for at in range(60)
        ]

    def of_one_process(**growth: int) -> list[Sample]:
        return [each._replace(pid=1) for each in life(**growth)]

    assert leaks.check(of_one_process()) == []
    assert "descriptors" in leaks.check(of_one_process(descriptors=5))[0].what
    assert "memory" in leaks.check(of_one_process(memory_bytes=20 << 20))[0].what


def test_tasks_that_are_left_over_leak() -> None:
    before = {"n0": 13, "n1": 17, "n2": 13}
    # One that was a follower may lead by now.
    assert leaks.check_tasks(before, {"n0": 17, "n1": 13, "n2": 13}) == []
    (leak,) = leaks.check_tasks(before, {"n0": 13, "n1": 13, "n2": 40})
    assert leak.what == "n2: from 13 to 40 tasks, and nothing is asked"
    (silent,) = leaks.check_tasks(before, {"n0": 13, "n2": 13})
    assert "n1" in silent.what


def test_this_process_can_be_sampled() -> None:
    found = leaks.sample("me", os.getpid())
    assert found is not None
    assert found.descriptors > 2
    assert found.memory_bytes > 1 << 20


WRITE = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
try:
    os.write(file, b"12345678")
    os.fsync(file)
    print("done")
except OSError as error:
    print(os.strerror(error.errno))
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the shim needs gcc")
def test_a_disk_fails_on_command(tmp_path: Path) -> None:
    library = build(tmp_path)
    assert library is not None
    (tmp_path / "data").mkdir()
    disk = Disk(library, tmp_path / "control", tmp_path / "data")

    def written(mode: DiskMode, path: str) -> str:
        disk.set(mode)
        command = [sys.executable, "-c", WRITE, str(tmp_path / path)]
        return subprocess.check_output(command, env={**os.environ, **disk.environment}, text=True).strip()

    assert written("none", "data/file") == "done"
    assert disk.hits == 0
    assert written("full", "data/file") == "No space left on device"
    assert written("write fails", "data/file") == "Input/output error"
    assert written("sync fails", "data/file") == "Input/output error"
    assert disk.hits == 1
    assert written("slow", "data/file") == "done"
    assert disk.hits == 2
    assert written("full", "elsewhere") == "done"
