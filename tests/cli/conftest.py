from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stele.cli.main import run
from tests.client.conftest import url_of
from tests.cluster.cluster import Cluster

_numbers = itertools.count()


@dataclass(frozen=True)
class Finished:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Stele = Callable[..., Finished]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # Seals come only when somebody asks for a proof, so that tests can count blocks.
    running = Cluster(tmp_path_factory.mktemp("single"), 1, "--seal-interval-s", "3600", "--allow-erasure")
    running.start()
    try:
        yield running
        running.stop()
    finally:
        running.kill_everything()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Stele:
    """Runs a command in this process, with a state directory of its own and no cluster."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("STELE_ENDPOINTS", "http://127.0.0.1:9")
    monkeypatch.setenv("STELE_TIMEOUT_S", "20")

    def stele(*arguments: object) -> Finished:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Finished(code, captured.out, captured.err)

    return stele


@pytest.fixture
def stele(alone: Stele, single: Cluster, monkeypatch: pytest.MonkeyPatch) -> Stele:
    """Runs a command in this process against a real node."""
    monkeypatch.setenv("STELE_ENDPOINTS", url_of(single))
    return alone


@pytest.fixture
def ledger(stele: Stele) -> str:
    """A fresh ledger with a table "t"."""
    name = f"ledger{next(_numbers)}"
    assert stele("ledger", "create", name).code == 0
    assert stele("table", "create", name, "t").code == 0
    return name


def start(*arguments: object, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """A command as a process of its own, with pipes."""
    command = [sys.executable, "-m", "stele.cli", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
