"""Fewer faults that still break a promise, found by running again with some left out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from chaos import folder as folders
from chaos.faults.fault import Happened
from chaos.schedule import Schedule, Step, find, toml

_CALM_S = 2.0
_AFTER_S = 4.0
_BROKEN = 1
_HOLD_MIN_S = 0.1


def shrink(folder: Path, tries: int, progress: Callable[[str], None]) -> Path | None:
    """Writes `shrunk.toml` into a failed run's folder; None when no try failed again.

    Raises OSError and msgspec.MsgspecError for a folder that is no run's, ScheduleInvalid for its scenario.
    """
    run = folders.read(folder)
    original = _schedule(run)
    shrunk = folder / "shrunk.toml"
    count = 0

    def fails(steps: Sequence[Step]) -> bool:
        nonlocal count
        count += 1
        place = folder / "shrink" / str(count)
        place.parent.mkdir(exist_ok=True)
        schedule = _with(original, compressed(steps))
        file = place.with_suffix(".toml")
        file.write_text(toml(schedule), encoding="utf-8")
        progress(f"try {count} of at most {tries}: {len(steps)} faults, {schedule.seconds:.0f} s")
        broke = _run(file, run.settings.seed, place)
        if broke:
            shrunk.write_text(toml(schedule), encoding="utf-8")
        progress("  a promise was broken" if broke else "  no promise was broken")
        return broke

    smallest(original.faults, fails, tries)
    return shrunk if shrunk.exists() else None


def smallest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], tries: int) -> Sequence[Step]:
    """The shortest part that is seen to fail in at most `tries` runs.

    Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002),
    without its search of subsets: parts are left out, larger ones first, and stay out when it still fails.
    """
    kept = list(steps)
    size = max(len(kept) // 2, 1)
    while tries > 0 and len(kept) > 1:
        begin = 0
        while begin < len(kept) and tries > 0 and len(kept) > 1:
            without = kept[:begin] + kept[begin + size :]
            if not without:
                break
            tries -= 1
            if fails(without):
                kept = without
            else:
                begin += size
        if size == 1:
            break
        size //= 2
    return kept


def compressed(steps: Sequence[Step]) -> list[Step]:
    """The same faults, with no more than a short calm before each."""
    moved: list[Step] = []
    end_s, saved_s = 0.0, 0.0
    for step in sorted(steps, key=lambda each: each.at_s):
        saved_s += max(step.at_s - end_s - _CALM_S, 0.0)
        end_s = max(end_s + max(step.at_s - end_s, 0.0), step.at_s + step.hold_s)
        moved.append(msgspec.structs.replace(step, at_s=step.at_s - saved_s))
    return moved


def steps_of(faults: Sequence[Happened], began_ns: int, nodes: Sequence[str]) -> list[Step]:
    """What happened as a schedule, each fault aimed at the first of its nodes."""
    return [
        Step(
            kind=fault.kind,
            at_s=round(max(fault.began_ns - began_ns, 0) / 1e9, 1),
            hold_s=round(max((fault.healed_ns - fault.began_ns) / 1e9, _HOLD_MIN_S), 1),
            target=next((target for target in fault.targets if target in nodes), "random"),
        )
        for fault in faults
    ]


def _schedule(run: folders.Folder) -> Schedule:
    if run.settings.scenario:
        return find(run.settings.scenario)
    zones = run.settings.zones
    return Schedule(
        title=f"Random faults of seed {run.settings.seed}",
        seconds=run.settings.seconds,
        nodes=len(zones),
        zones=len(set(zones.values())),
        clients=run.settings.clients,
        faults=tuple(steps_of(run.faults, run.verdict.began_ns, list(zones))),
    )


def _with(schedule: Schedule, steps: Sequence[Step]) -> Schedule:
    seconds = max(step.at_s + step.hold_s for step in steps) + _AFTER_S
    return msgspec.structs.replace(schedule, faults=tuple(steps), seconds=seconds)


def _run(scenario: Path, seed: int, out: Path) -> bool:
    """One try in a process and a network of its own; whether a promise was broken."""
    command = [sys.executable, "-m", "chaos", "run", "--scenario", str(scenario)]
    command += ["--seed", str(seed), "--out", str(out)]
    with out.with_suffix(".log").open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, env=os.environ, check=False)  # noqa: S603
    # Not every end with status 1 is a verdict: Python gives it to an exception, too.
    if not (out / "verdict.json").exists():
        raise OSError(f"a try came to no verdict; see {out.with_suffix('.log')}")
    return ended.returncode == _BROKEN
