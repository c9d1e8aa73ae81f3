"""``python -m chaos``: the fault laboratory."""

import asyncio
import logging
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter, validators

from chaos import limits, report
from chaos.lab import image, namespaces
from chaos.run import Plan, planned, run
from chaos.schedule import ScheduleInvalid, find
from chaos.shrink import shrink
from chaos.simulation import seeds as simulated
from chaos.simulation.seeds import Size, nodes_of, parse_seeds
from chaos.simulation.world import play
from chaos.summary import summary

app = App(name="python -m chaos", help=__doc__, version_flags=())


@app.command
def simulate(
    *,
    seeds: str = "0..299",
    nodes: Size = "mixed",
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=64))] = 1,
    minutes: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    replay: int | None = None,
    transcript: Path | None = None,
) -> int:
    """Play whole clusters in one process, a seed a history, and check what must hold after every step.

    Ends with status 1 at the first seed that breaks a promise, and prints how to replay it.

    Parameters
    ----------
    seeds: first and last seed, as A..B
    nodes: 3, 5, or mixed: every fourth seed five nodes, the others three
    jobs: processes that play seeds side by side; what is found does not depend on it
    minutes: stop after so long even if seeds are left
    replay: play this one seed again and print its transcript, one line an event
    transcript: write the transcript of `replay`, or of the first violating seed, into this file
    """
    if replay is not None:
        logging.disable(logging.CRITICAL)
        return _replay(replay, nodes, transcript)
    try:
        chosen = parse_seeds(seeds)
    except ValueError as error:
        print(f"--seeds {seeds}: {error}", file=sys.stderr)
        return 2
    logging.disable(logging.CRITICAL)  # What nodes report of thousands of faults.
    report = partial(print, flush=True)
    played = simulated.run(chosen, nodes, jobs=jobs, minutes=minutes, progress=report)
    print(played.line())
    violating = played.violating
    if violating is None:
        print("no promise was broken")
        return 0
    print(f"seed {violating.seed} ({violating.nodes} nodes) BROKE A PROMISE: {violating.violation}")
    print(f"replay it: python -m chaos simulate --replay {violating.seed} --nodes {violating.nodes}")
    if transcript is not None:
        _replay(violating.seed, nodes, transcript)
    return 1


Latency = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=limits.ZONE_LATENCY_MS_MAX))]


@app.command(name="run")
def run_lab(
    *,
    minutes: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=limits.MINUTES_MAX))] = 3.0,
    seed: int | None = None,
    nodes: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=limits.NODES_MAX))] = 5,
    zones: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=limits.ZONES_MAX))] = 3,
    clients: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=limits.CLIENTS_MAX))] = 12,
    scenario: str | None = None,
    network: Literal["auto", "namespaces", "proxies"] = "auto",
    disks: Literal["auto", "images", "folders"] = "auto",
    zone_latency_ms: Latency = limits.ZONE_LATENCY_MS,
    upgrade_to: Path | None = None,
    out: Path | None = None,
) -> int:
    """Start real nodes in simulated zones, load them, break them, and judge what their clients saw.

    Ends with status 1 when a promise was broken; logs, data, history and verdict stay in `out`.

    Parameters
    ----------
    minutes: how long clients and faults go on
    seed: chooses the load and the faults; by default one is drawn and printed
    nodes: how many nodes
    zones: over how many availability zones they are spread
    clients: how many clients ask at once
    scenario: a TOML file, or the name of one in chaos/schedules; it says what happens when, and the sizes
    network: namespaces, proxies where those are not allowed, or auto: whichever works
    disks: images, which lose what was not synced when power is lost and need root, folders elsewhere, or auto
    zone_latency_ms: how long it takes from one zone to another, one way
    upgrade_to: a checkout of another build, for rolling upgrades; by default this one under another version
    out: a new folder for everything that the run leaves; by default under var/chaos
    """
    try:
        schedule = None if scenario is None else find(scenario)
    except ScheduleInvalid as error:
        print(error, file=sys.stderr)
        return 2
    images = _has_images(disks)
    if images is None or not _has_network(network):
        return 2
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    folder = out or Path("var/chaos") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{chosen}"
    folder.mkdir(parents=True)
    print(f"seed {chosen}, everything in {folder}", flush=True)
    sizes = minutes * 60, nodes, zones, clients
    plan = Plan(folder.resolve(), chosen, *sizes, images=images, upgrade_to=upgrade_to)
    plan = replace(plan, zone_latency_s=zone_latency_ms / 1_000)
    return _run(plan if schedule is None else planned(plan, schedule), folder)


@app.command(name="available")
def is_available() -> int:
    """Tell whether `run` can work on this machine; if not, end with status 1 and say why."""
    why_not = namespaces.available()
    print("network namespaces can be made here" if why_not is None else why_not)
    return 0 if why_not is None else 1


@app.command(name="shrink")
def shrink_run(
    folder: Path, *, tries: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100))] = 12
) -> int:
    """Look for fewer faults that still break a promise, by running again with some left out.

    Writes the shortest schedule that failed into shrunk.toml of the folder, and every try beneath it. Real
    processes do not repeat exactly: a try that passes proves little, one that fails a lot.

    Parameters
    ----------
    folder: of a run that found an anomaly
    tries: at most so many runs
    """
    try:
        found = shrink(folder, tries, lambda line: print(line, flush=True))
    except (OSError, msgspec.MsgspecError, ScheduleInvalid) as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 2
    print("no try broke a promise" if found is None else f"python -m chaos run --scenario {found}")
    return 0 if found is not None else 1


@app.command(name="report")
def report_again(folder: Path) -> int:
    """Make report.html of a run's folder anew.

    Parameters
    ----------
    folder: what `run` wrote its files into
    """
    try:
        print(report.write(folder))
    except (OSError, msgspec.MsgspecError) as error:
        print(f"{folder}: not the folder of a run that ended: {error}", file=sys.stderr)
        return 2
    return 0


def _has_images(disks: str) -> bool | None:
    """Whether nodes get disks whose power can be cut; None, and told why, when they cannot and must."""
    why_not = "not asked for" if disks == "folders" else image.available()
    if disks == "images" and why_not is not None:
        print(f"disks whose power can be cut cannot be made here: {why_not}", file=sys.stderr)
        return None
    return why_not is None


def _has_network(network: str) -> bool:
    """False when namespaces are insisted upon and cannot be made. Does not return when they can be."""
    if network == "proxies" or namespaces.inside():
        return True
    why_not = namespaces.available()
    if why_not is None:
        namespaces.enter()
    print(f"network namespaces cannot be made here: {why_not}", file=sys.stderr)
    if network == "namespaces":
        return False
    print("TCP proxies stand in for them", file=sys.stderr)
    return True


def _run(plan: Plan, folder: Path) -> int:
    result = asyncio.run(run(plan, lambda line: print(line, flush=True)))
    print(summary(result))
    print(f"report: {folder / 'report.html'}")
    return 1 if result.anomalies else 0


def _replay(seed: int, nodes: Size, transcript: Path | None) -> int:
    lines: list[str] = []
    sink = print if transcript is None else lines.append
    history = play(seed, nodes_of(seed, nodes), sink)
    if transcript is not None:
        transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{len(lines)} lines in {transcript}")
    print(f"seed {seed}, {history.nodes} nodes: {history.violation or 'no promise was broken'}")
    return 0 if history.violation is None else 1


if __name__ == "__main__":
    sys.exit(app())
