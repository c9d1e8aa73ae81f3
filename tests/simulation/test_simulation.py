"""Hundreds of histories of whole nodes without a broken promise; and the same seed is the same history."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.__main__ import app
from chaos.simulation.seeds import nodes_of, parse_seeds, run
from chaos.simulation.world import play
from tests.simulation.mutations import MUTATIONS

SEEDS = range(300)
SEEDS_SLOW = range(300, 3_000)
BLOCKS = 10
HASH = "import sys; from tests.simulation.test_simulation import *; print(transcript_hash(int(sys.argv[1])))"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_promise_is_kept(block: int) -> None:
    summary = run(SEEDS[block::BLOCKS], "mixed")
    assert summary.violating is None, summary.violating
    # Histories in which nothing happens prove nothing.
    per_history = {name: count / summary.seeds for name, count in summary.counts.items()}
    assert per_history["acknowledged"] > 40
    assert per_history["reads"] > 20
    assert per_history["leaders"] > 1.5
    assert per_history["crashes"] > 1
    assert per_history["unknown"] > 0.2
    assert per_history["compacted"] > 1
    assert all(summary.counts[fault] for fault in ("isolate", "cut one way", "fail a sync", "pause"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_promise_is_kept_in_thousands_of_histories() -> None:
    summary = run(SEEDS_SLOW, "mixed", progress=print)
    assert summary.violating is None, summary.violating


def test_a_cluster_of_one_keeps_every_promise() -> None:
    played = [play(seed, 1) for seed in range(20)]
    assert [history.violation for history in played if history.violation] == []
    assert sum(history.counts["acknowledged"] for history in played) > 20 * 40


def transcript_hash(seed: int) -> str:
    """A hash of everything that happened in one seed."""
    lines: list[str] = []
    play(seed, nodes_of(seed, "mixed"), lines.append)
    assert len(lines) > 100
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("seed", [3, 4])
def test_a_seed_is_a_history_whatever_the_hash_seed(seed: int) -> None:
    found = {transcript_hash(seed), transcript_hash(seed)}
    for hash_seed in ("1", "77"):
        ran = subprocess.run(
            [sys.executable, "-c", HASH, str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
        found.add(ran.stdout.strip())
    assert len(found) == 1


def test_reading_along_changes_nothing() -> None:
    assert play(5, 3).counts == play(5, 3, lambda line: None).counts


def test_seeds_are_a_range() -> None:
    assert parse_seeds("0..9999") == range(10_000)
    assert parse_seeds("7") == range(7, 8)
    for wrong in ("", "9..3", "a..b"):
        with pytest.raises(ValueError):
            parse_seeds(wrong)
    assert {nodes_of(seed, "mixed") for seed in range(4)} == {3, 5}


def command(*arguments: str) -> int:
    """What `python -m chaos` ends with."""
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_replays_a_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("simulate", "--seeds", "0..1", "--nodes", "3") == 0
    assert "no promise was broken" in capsys.readouterr().out
    transcript = tmp_path / "transcript"
    assert command("simulate", "--replay", "1", "--transcript", str(transcript)) == 0
    lines = transcript.read_text().splitlines()
    assert "seed=1 nodes=3" in lines[0]
    assert any(" commits " in line for line in lines)


def test_the_command_reports_the_first_violating_seed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nondeterminism,) = [each for each in MUTATIONS if each.rule == "apply is not deterministic"]
    nondeterminism.patch(monkeypatch)
    transcript = tmp_path / "transcript"
    assert command("simulate", "--seeds", "0..9", "--transcript", str(transcript)) == 1
    assert re.search(r"--replay [0-9] --nodes [35]", capsys.readouterr().out)
    assert "VIOLATION" in transcript.read_text().splitlines()[-1]
