"""Schedules: TOML files that say which fault happens when, to whom, and for how long."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from chaos import limits
from chaos.lab.cluster import zones_of
from chaos.report.families import family

BUILT_IN = Path(__file__).parent / "schedules"
_ROLES = frozenset({"leader", "follower", "random"})
_FAULTS_MAX = 1_000
_SECONDS_MAX = limits.MINUTES_MAX * 60

Seconds = Annotated[float, Meta(ge=0, le=_SECONDS_MAX)]


class ScheduleInvalid(ValueError):
    """A schedule cannot be played; the message has the file and what is wrong in it."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: `at_s` after the load begins, held for `hold_s`, then healed.

    `kind` is a kind of fault as reports name it. `target`: leader, follower, random, a node or a zone (any
    node of it); what a kind does with its target is that kind's own matter.
    """

    kind: str
    at_s: Seconds
    hold_s: Seconds
    target: str = "random"


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file. With `writes_resume_s`, writes that stop for longer during a fault are an anomaly."""

    title: str
    seconds: Annotated[float, Meta(gt=0, le=_SECONDS_MAX)]
    nodes: Annotated[int, Meta(ge=1, le=limits.NODES_MAX)] = 5
    zones: Annotated[int, Meta(ge=1, le=limits.ZONES_MAX)] = 3
    clients: Annotated[int, Meta(ge=1, le=limits.CLIENTS_MAX)] = 12
    writes_resume_s: Annotated[float, Meta(gt=0)] | None = None
    faults: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=_FAULTS_MAX)]
    name: str = ""


def find(name: str) -> Schedule:
    """A file, or one of chaos/schedules by its name. Raises ScheduleInvalid."""
    path = Path(name)
    if not path.is_file():
        path = BUILT_IN / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in BUILT_IN.glob("*.toml")))
        raise ScheduleInvalid(f"no scenario {name}: neither a file nor one of {known}")
    try:
        return parse(path.read_text(encoding="utf-8"), name)
    except ScheduleInvalid as error:
        raise ScheduleInvalid(f"{path}: {error}") from error


def parse(text: str, name: str) -> Schedule:
    """Raises ScheduleInvalid."""
    try:
        schedule = msgspec.convert({**tomllib.loads(text), "name": name}, Schedule)
        zones = zones_of(schedule.nodes, schedule.zones)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ScheduleInvalid(str(error)) from error
    targets = _ROLES | set(zones) | set(zones.values())
    for number, step in enumerate(schedule.faults):
        if step.target not in targets:
            raise ScheduleInvalid(
                f"faults[{number}].target: {step.target} is none of {', '.join(sorted(targets))}"
            )
        if step.at_s + step.hold_s > schedule.seconds:
            raise ScheduleInvalid(f"faults[{number}]: ends after the run, which has {schedule.seconds:g} s")
    _check_overlap(schedule.faults)
    return schedule


def _check_overlap(steps: Sequence[Step]) -> None:
    """Faults of the network replace one another, so two of them cannot hold at once."""
    network = sorted((step for step in steps if family(step.kind) == "network"), key=lambda step: step.at_s)
    for step, following in pairwise(network):
        if following.at_s < step.at_s + step.hold_s:
            raise ScheduleInvalid(
                f"{following.kind} at {following.at_s:g} s begins while {step.kind} holds: the network has "
                "one fault at a time"
            )


def toml(schedule: Schedule) -> str:
    """The file that `parse` reads back."""
    lines = [f"title = {_quoted(schedule.title)}", f"seconds = {float(schedule.seconds)}"]
    lines += [f"nodes = {schedule.nodes}", f"zones = {schedule.zones}", f"clients = {schedule.clients}"]
    if schedule.writes_resume_s is not None:
        lines.append(f"writes_resume_s = {float(schedule.writes_resume_s)}")
    for step in schedule.faults:
        lines += ["", "[[faults]]", f"kind = {_quoted(step.kind)}", f"target = {_quoted(step.target)}"]
        lines += [f"at_s = {float(step.at_s)}", f"hold_s = {float(step.hold_s)}"]
    return "\n".join(lines) + "\n"


def _quoted(words: str) -> str:
    # A JSON string is also a TOML one.
    return msgspec.json.encode(words).decode()
