"""Remembered checkpoints survive crashes, concurrency and damage."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from stele.client import CheckpointFile, CheckpointMemory, InProcessMemory, MemoryDamaged
from stele.client.memory import Remembered, state_path


@pytest.fixture(params=["process", "file"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointMemory:
    return InProcessMemory() if request.param == "process" else CheckpointFile(tmp_path / "s" / "c.json")


def test_a_checkpoint_replaces_only_what_was_read(memory: CheckpointMemory) -> None:
    first, second, third = (Remembered(note=str(n), ledger_id="l") for n in range(3))
    assert memory.newest("key") is None
    assert memory.replace("key", None, first)
    assert not memory.replace("key", None, second)
    assert memory.replace("key", first, second)
    assert not memory.replace("key", first, third)
    assert memory.newest("key") == second
    assert memory.newest("other") is None


def test_pins_go_by_endpoint_and_ledger(memory: CheckpointMemory) -> None:
    memory.pin(["a", "b"], "cars", "key")
    memory.replace("key", None, Remembered(note="n", ledger_id="l"))
    assert memory.pinned_key(["c", "b"], "cars") == "key"
    assert memory.pinned_key(["b"], "boats") is None
    assert memory.forget(["a", "b"], "cars", None)
    assert memory.pinned_key(["a", "b"], "cars") is None
    assert memory.newest("key") is None
    assert not memory.forget(["a"], "cars", "key")


def test_a_checkpoint_under_a_given_key_can_be_forgotten(memory: CheckpointMemory) -> None:
    memory.replace("key", None, Remembered(note="n", ledger_id="l"))
    assert memory.forget([], "cars", "key")
    assert memory.newest("key") is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"format":2}', b'{"format":1,"pins":[]}', b"\xff"])
def test_a_damaged_file_is_neither_used_nor_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    memory = CheckpointFile(path)
    with pytest.raises(MemoryDamaged):
        memory.newest("key")
    with pytest.raises(MemoryDamaged):
        memory.replace("key", None, Remembered(note="n", ledger_id="l"))
    assert path.read_bytes() == content


def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "c.json"
    CheckpointFile(path).pin(["a"], "cars", "key")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["c.json", "c.json.lock"]


def _count_up(path: Path, rounds: int) -> None:
    memory = CheckpointFile(path)
    for _ in range(rounds):
        while True:
            known = memory.newest("key")
            number = int(known.note) if known is not None else 0
            if memory.replace("key", known, Remembered(note=str(number + 1), ledger_id="l")):
                break


def test_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_up, args=(path, 25)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    known = CheckpointFile(path).newest("key")
    assert known is not None
    assert known.note == "75"


def test_the_default_place_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_path() == tmp_path / "stele" / "checkpoints.json"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_path() == Path.home() / ".local" / "state" / "stele" / "checkpoints.json"
