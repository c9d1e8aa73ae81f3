"""The folder of a run: what it was asked, what it saw, and what was judged. Reports are made from it alone.

run.json       seed, versions, sizes: written before anything starts
history.jsonl  what clients saw, an operation a line
journal.ndjson the journal that all nodes agreed upon (with one file a node when they did not)
faults.jsonl   what was broken, when, and the evidence
nodes.jsonl    what each node said of itself, a line a change
verdict.json   the broken promises, or none
report.html    all of it to look at
cluster/       settings, logs and data of every node
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from chaos.checkers.anomaly import Anomaly
from chaos.faults.fault import Happened
from chaos.history import Operation, read_history
from chaos.observer import Sighting

HISTORY = "history.jsonl"
JOURNAL = "journal.ndjson"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """run.json. `began` is a wall-clock time (RFC 3339, UTC); `zones` maps nodes to zones."""

    seed: int
    version: str
    revision: str
    """The commit of the source, empty outside a clone."""
    began: str
    seconds: float
    zones: dict[str, str]
    clients: int
    network: str
    zone_latency_s: float = 0.0
    scenario: str = ""
    operations_per_second_max: float | None = None
    """What closed loops are held back to, so that all of it can be judged; None when nothing holds them."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """One anomaly, with members that have names."""

    promise: str
    what: str
    operations: tuple[Operation, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """verdict.json. Times are monotonic nanoseconds, as in the history."""

    passed: bool
    began_ns: int
    ended_ns: int
    began: str = ""
    """The wall-clock time of `began_ns` (RFC 3339, UTC), by which logs are compared."""
    operations: int
    faults: dict[str, int]
    """How often each kind happened."""
    unavailable_s: dict[str, list[float]]
    """By kind of fault: the longest time without an acknowledged write at each occurrence."""
    recovery_s: dict[str, list[float]] = {}
    """By kind of fault: how long writes still stood still after each occurrence was healed."""
    judged: dict[str, int] = {}
    """How much each checker had to judge: a checker that saw nothing proves nothing."""
    broken: list[Broken]


class Folder(NamedTuple):
    """Everything that a report needs, but for the history, which may be too long to hold."""

    path: Path
    settings: Settings
    faults: list[Happened]
    sightings: list[Sighting]
    verdict: Verdict

    def history(self) -> Iterator[Operation]:
        """Reads it anew each time. Raises OSError and msgspec.MsgspecError."""
        return read_history(self.path / HISTORY)


def write_settings(folder: Path, settings: Settings) -> None:
    _write(folder / "run.json", settings)


def write_verdict(folder: Path, verdict: Verdict) -> None:
    _write(folder / "verdict.json", verdict)


def broken(anomalies: list[Anomaly]) -> list[Broken]:
    return [Broken(promise=each.promise, what=each.what, operations=each.operations) for each in anomalies]


def read(folder: Path) -> Folder:
    """Raises OSError for a file that is missing and msgspec.MsgspecError for one that is not as written."""
    return Folder(
        path=folder,
        settings=read_settings(folder),
        faults=msgspec.json.Decoder(Happened).decode_lines((folder / "faults.jsonl").read_bytes()),
        sightings=msgspec.json.Decoder(Sighting).decode_lines((folder / "nodes.jsonl").read_bytes()),
        verdict=msgspec.json.decode((folder / "verdict.json").read_bytes(), type=Verdict),
    )


def read_settings(folder: Path) -> Settings:
    """Raises OSError and msgspec.MsgspecError."""
    return msgspec.json.decode((folder / "run.json").read_bytes(), type=Settings)


def _write(path: Path, content: msgspec.Struct) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
