"""The laboratory can see: each planted bug is found within five minutes, and nothing without one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.lab import namespaces

FOUND_WITHIN_S = 300

# How each bug is provoked, and what it breaks; any of the promises will do.
BUGS = {
    "acknowledge_before_sync": (
        "power loss of all",
        ["an acknowledged write is never lost", "a healed cluster"],
    ),
    "stale_read_from_old_leader": ("isolate;split", ["a strong read is never stale", "registers are linear"]),
    "skipped_condition_check": ("leadership transfer", ["money is neither", "registers are linear"]),
    "lost_idempotency_record": ("kill;isolate;power loss of all", ["a write happens once"]),
    "replica_skips_a_block": (
        "leadership transfer",
        ["a healed cluster", "journals are the same", "a node ends"],
    ),
    "checkpoint_over_uncommitted_block": (
        "leadership transfer",
        ["every pair of checkpoints", "a checkpoint is of what is committed", "every checkpoint served"],
    ),
    "task_left_over": ("leadership transfer", ["nothing leaks"]),
    "commit_index_not_capped": (
        "isolate, then kill",
        ["no node is ever contradicted", "an acknowledged write", "journals are the same", "a node ends"],
    ),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(FOUND_WITHIN_S + 30),
    pytest.mark.skipif(namespaces.available() is not None, reason="no network namespaces here"),
]


def run(bug: str, folder: Path, kinds: str, seconds: float) -> list[str]:
    command = [sys.executable, "-m", "tests.chaos.planted_run", bug, str(folder), kinds, str(seconds), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FOUND_WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    kinds, promises = BUGS[bug]
    found = run(bug, tmp_path / "run", kinds, 30)
    assert any(line.startswith(promise) for line in found for promise in promises), found


def test_without_a_bug_nothing_is_found(tmp_path: Path) -> None:
    assert run("none", tmp_path / "run", "isolate;power loss of all;kill", 30) == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the shim needs gcc")
def test_every_fault_of_disks_and_operators_takes_effect(tmp_path: Path) -> None:
    disks = "disk full;disk write fails;disk sync fails;disk slow;disk wiped;bit flip;power loss"
    operators = "membership change;leadership transfer;rolling restart;certificate rotation"
    assert run("none", tmp_path / "run", f"{disks};{operators}", 90) == []
    happened = (tmp_path / "run" / "faults.jsonl").read_text()
    assert [kind for kind in f"{disks};{operators}".split(";") if f'"{kind}"' not in happened] == []
