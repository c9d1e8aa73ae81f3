"""One run: a cluster, its load, its faults, and the judgement afterwards."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from chaos import folder, limits, quiet, report
from chaos.availability import longest_by_fault, recovery_by_fault
from chaos.checkers import leaks
from chaos.checkers.anomaly import Anomaly
from chaos.checkers.replicas import check_disks
from chaos.exports import fetch, keep_one, until_equal
from chaos.faults.fault import Happened
from chaos.history import HistoryFile, Operation
from chaos.judge import Collected, judge, judge_alone
from chaos.lab import builds, namespaces
from chaos.lab.cluster import Cluster, zones_of
from chaos.lab.namespaces import Namespaces
from chaos.lab.network import Network
from chaos.lab.proxies import Proxies
from chaos.nemesis import Nemesis
from chaos.observer import Observer
from chaos.outline import Outline
from chaos.schedule import Schedule
from chaos.workloads.bulk import load_again_and_again
from chaos.workloads.client import LEDGER, TABLE, Client, new_session
from chaos.workloads.mix import Mix
from chaos.workloads.open_loop import OpenLoop
from chaos.workloads.pace import Pace
from chaos.workloads.verifying import Held, Verifier
from node import __version__


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `folder` takes logs, data, history and verdict."""

    folder: Path
    seed: int
    seconds: float
    nodes: int = 5
    zones: int = 3
    clients: int = 12
    schedule: Schedule | None = None
    """What to break and when; None for random faults."""
    kinds: tuple[str, ...] = ()
    """Only these faults; all there are, when empty."""
    images: bool = False
    """Whether each node has a disk whose power can be cut (lab/image.py)."""
    upgrade_to: Path | None = None
    """A checkout of the build that rolling upgrades go to; by default this one under another version."""
    zone_latency_s: float = limits.ZONE_LATENCY_MS / 1_000
    """How long it takes from one zone to another."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For every node, beside the laboratory's own; how tests plant bugs from outside the product."""


def planned(plan: Plan, schedule: Schedule) -> Plan:
    """The plan with the length and the sizes of a schedule."""
    return replace(
        plan,
        schedule=schedule,
        seconds=schedule.seconds,
        nodes=schedule.nodes,
        zones=schedule.zones,
        clients=schedule.clients,
    )


@dataclass(slots=True)
class Run:
    """What happened in a run, and what the checkers say of it."""

    plan: Plan
    outline: Outline = field(default_factory=Outline)
    faults: list[Happened] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)
    samples: list[leaks.Sample] = field(default_factory=list)
    tasks_before: Mapping[str, int] = field(default_factory=dict)
    """How many tasks each node had before the load."""
    data: Mapping[str, Path] = field(default_factory=dict)
    """The data directory of each node."""
    judged: Counter[str] = field(default_factory=Counter)
    began_ns: int = 0
    ended_ns: int = 0
    began: str = ""

    @property
    def verdict(self) -> folder.Verdict:
        gaps = self.outline.gaps()
        return folder.Verdict(
            passed=not self.anomalies,
            began_ns=self.began_ns,
            ended_ns=self.ended_ns,
            began=self.began,
            operations=self.outline.operations,
            faults=dict(Counter(fault.kind for fault in self.faults)),
            unavailable_s=longest_by_fault(gaps, self.faults),
            recovery_s=recovery_by_fault(gaps, self.faults),
            judged=dict(self.judged),
            broken=folder.broken(self.anomalies),
        )


async def run(plan: Plan, progress: Callable[[str], None]) -> Run:
    """Everything from the first start to the last check; whatever happens, nothing is left running."""
    folder.write_settings(plan.folder, _settings(plan))
    lab = Laboratory(plan, progress)
    result = lab.result
    collected: Collected | None = None
    try:
        await lab.start()
        await lab.load()
        lab.look_for_the_dead()
        collected = await lab.collect()
    except TimeoutError as error:
        if not result.ended_ns:
            raise  # It never got as far as to be judged.
        result.anomalies.append(Anomaly("a healed cluster serves again", str(error)))
    finally:
        await lab.stop()
    _judge(result, collected, progress)
    folder.write_verdict(plan.folder, result.verdict)
    report.write(plan.folder)
    return result


def _settings(plan: Plan) -> folder.Settings:
    return folder.Settings(
        seed=plan.seed,
        version=__version__,
        revision=_revision(),
        began=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        seconds=plan.seconds,
        zones=zones_of(plan.nodes, plan.zones),
        clients=plan.clients,
        network="namespaces" if namespaces.inside() else "proxies",
        zone_latency_s=plan.zone_latency_s,
        scenario="" if plan.schedule is None else plan.schedule.name,
        operations_per_second_max=_pace(plan),
    )


def _pace(plan: Plan) -> float:
    """What is left for the closed loops of all that can be judged, over the length of the run."""
    others_per_s = limits.OPEN_PER_S + limits.LOAD_LINES / limits.LOAD_PAUSE_S
    return max(limits.OPERATIONS_MAX / plan.seconds - others_per_s, 1.0)


def _revision() -> str:
    """The commit of the source that runs, empty when there is none to tell."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def _late(result: Run) -> list[Anomaly]:
    """Faults of a scenario after which writes took longer to resume than it allows."""
    schedule = result.plan.schedule
    if schedule is None or schedule.writes_resume_s is None:
        return []
    allowed_s = schedule.writes_resume_s
    return [
        Anomaly("writes resume in time", f"{kind}: {max(found):.2f} s, and {allowed_s:g} s are allowed")
        for kind, found in longest_by_fault(result.outline.gaps(), result.faults).items()
        if max(found) > allowed_s
    ]


def _judge(result: Run, collected: Collected | None, progress: Callable[[str], None]) -> None:
    place = result.plan.folder
    if collected is None:
        result.anomalies += judge_alone(place)
    else:
        found, judged = judge(place, collected, result.held, result.refuted, progress)
        result.anomalies += found
        result.judged.update(judged)  # += would leave out what is zero, and that is worth knowing.
        if not found:
            keep_one(list(collected.exports.values()), place / folder.JOURNAL)
    result.anomalies += leaks.check(result.samples)
    result.anomalies += [
        Anomaly("every fault takes effect", f"{fault.kind} of {', '.join(fault.targets)} left no trace")
        for fault in result.faults
        if not fault.evidence
    ]
    result.anomalies += check_disks(result.data, progress)
    result.anomalies += _late(result)


def network_of(zones: dict[str, str], latency_s: float) -> Network:
    """Namespaces when this process has been taken into them, else proxies."""
    return Namespaces(zones, latency_s) if namespaces.inside() else Proxies(zones, latency_s)


class Laboratory:
    """The moving parts of one run."""

    def __init__(self, plan: Plan, progress: Callable[[str], None]) -> None:
        self.result = Run(plan)
        self._plan = plan
        self._progress = progress
        self._rng = random.Random(plan.seed)
        self._mix: Mix | None = None
        zones = zones_of(plan.nodes, plan.zones)
        self._cluster = Cluster(
            plan.folder / "cluster", zones, network_of(zones, plan.zone_latency_s), images=plan.images
        )
        self.result.data = {node.id: node.place.data for node in self._cluster.nodes.values()}
        self._history_file = HistoryFile(plan.folder / folder.HISTORY)
        self._faults_file = (plan.folder / "faults.jsonl").open("wb")

    async def start(self) -> None:
        self._progress(f"starting {self._plan.nodes} nodes in {self._plan.zones} zones")
        packages = builds.copied(self._plan.folder / "build")
        for node in self._cluster.nodes.values():
            node.environment.update(self._plan.environment)
            # A long run is one of the code that it began with, however the working tree changes meanwhile.
            own = node.environment.get("PYTHONPATH")
            node.environment["PYTHONPATH"] = ":".join([*([own] if own else []), builds.python_path(packages)])
        await self._cluster.start()
        async with aiohttp.ClientSession() as session:
            for path in (LEDGER, f"{LEDGER}/tables/{TABLE}"):
                await self._create(session, path)
        self.result.tasks_before = await quiet.tasks_of(self._endpoints())

    async def _create(self, session: aiohttp.ClientSession, path: str) -> None:
        async with asyncio.timeout(limits.READY_TIMEOUT_S):
            while True:
                async with session.put(f"{self._cluster.endpoints[0]}/v1/ledgers/{path}") as answer:
                    if answer.status in (200, 201):
                        return
                await asyncio.sleep(limits.POLL_S)

    async def load(self) -> None:
        """Clients and nemesis, for as long as planned; ends with everything healed and running."""
        stopped = asyncio.Event()
        self._mix = mix = Mix(random.Random(self._rng.random()), self._plan.clients)
        self.result.began_ns = time.monotonic_ns()
        self.result.began = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        async with new_session() as session:
            pace = Pace(_pace(self._plan))
            clients = [self._client(number, session, pace) for number in range(self._plan.clients)]
            loader = self._client(len(clients), session)
            arriving = [
                self._client(len(clients) + 1 + number, session)
                for number in range(limits.OPEN_IN_FLIGHT_MAX)
            ]
            open_loop = OpenLoop(arriving, mix.open_act)
            verifier = Verifier(
                self._cluster.endpoints, await self._verifier_key(), random.Random(self._rng.random())
            )
            self.result.held, self.result.refuted = verifier.held, verifier.refuted
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._observer().run(stopped))
                tasks.create_task(verifier.work(stopped))
                tasks.create_task(self._sample(stopped))
                tasks.create_task(self._break(stopped))
                tasks.create_task(open_loop.run(stopped))
                tasks.create_task(load_again_and_again(loader, mix.loads(), stopped))
                for client in clients:
                    tasks.create_task(mix.work(client, stopped))
                await self._wait(stopped)
        self.result.ended_ns = time.monotonic_ns()
        self.result.judged["proofs of growth"] = verifier.proved

    async def _break(self, stopped: asyncio.Event) -> None:
        rng = random.Random(self._rng.random())
        nemesis = Nemesis(self._cluster, rng, self._happened, self._build(), self._found)
        if self._plan.kinds:
            nemesis.only(self._plan.kinds)
        schedule = self._plan.schedule
        if schedule is None:
            await nemesis.run(stopped)
        else:
            await nemesis.play(schedule.faults, stopped)

    def _build(self) -> Sequence[Path]:
        other = self._plan.upgrade_to
        return builds.another(self._plan.folder / "upgrade") if other is None else builds.checkout(other)

    def _observer(self) -> Observer:
        return Observer(self._endpoints(), self._plan.folder / "nodes.jsonl")

    def _endpoints(self) -> dict[str, str]:
        return {node.id: node.http for node in self._cluster.nodes.values()}

    async def _sample(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            for node in self._cluster.nodes.values():
                found = None if node.pid is None else leaks.sample(node.id, node.pid)
                if found is not None:
                    self.result.samples.append(found)
            await asyncio.sleep(limits.SAMPLE_PERIOD_S)

    async def _verifier_key(self) -> str:
        async with aiohttp.request("GET", f"{self._cluster.endpoints[0]}/v1/ledgers/{LEDGER}") as answer:
            return str((await answer.json())["verifier_key"])

    async def _wait(self, stopped: asyncio.Event) -> None:
        deadline_s = time.monotonic() + self._plan.seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, limits.PROGRESS_PERIOD_S))
            self._progress(
                f"{self.result.outline.operations:,} operations, {len(self.result.faults)} faults, "
                f"{max(left_s - limits.PROGRESS_PERIOD_S, 0):.0f} s left"
            )
        stopped.set()

    def _client(self, number: int, session: aiohttp.ClientSession, pace: Pace | None = None) -> Client:
        rng = random.Random(self._rng.random())
        return Client(number, session, self._cluster.endpoints, rng, self._ended, pace)

    def _ended(self, operation: Operation) -> None:
        self.result.outline.add(operation)
        self._history_file.add(operation)
        if self._mix is not None:
            self._mix.remember(operation)

    def _happened(self, fault: Happened) -> None:
        self.result.faults.append(fault)
        self._faults_file.write(msgspec.json.encode(fault) + b"\n")
        self._progress(f"{fault.kind}: {', '.join(fault.targets)} ({fault.evidence or 'NO EVIDENCE'})")

    def _found(self, anomaly: Anomaly) -> None:
        self.result.anomalies.append(anomaly)
        self._progress(f"BROKEN: {anomaly}")

    def look_for_the_dead(self) -> None:
        """After everything was healed: a node that is down, or that found itself contradicted, is no fault
        of ours."""
        for node in self._cluster.nodes.values():
            if node.pid is None:
                what = f"{node.id} ended with {node.exit_code}; see {node.place.log_file}"
                self.result.anomalies.append(Anomaly("a node ends only when its disk fails", what))
            if node.found_contradiction():
                what = f"{node.id} stopped itself; see {node.place.log_file}"
                self.result.anomalies.append(Anomaly("no node is ever contradicted", what))

    async def collect(self) -> Collected:
        """Every node's own export, once all have the same journal; and the ledger's verifier key."""
        self._progress("healed; waiting until all nodes agree")
        for node in self._cluster.nodes.values():
            await node.start()
        await self._cluster.until_ready(list(self._cluster.nodes))
        await until_equal(self._cluster, LEDGER)
        exports = await fetch(self._cluster, LEDGER, self._plan.folder)
        await self._count_tasks()
        return Collected(exports, await self._verifier_key())

    async def _count_tasks(self) -> None:
        before = self.result.tasks_before
        after = await quiet.tasks_left(self._endpoints(), before)
        self.result.anomalies += leaks.check_tasks(before, after)
        self.result.judged["tasks before"] = sum(before.values())
        self.result.judged["tasks after"] = sum(after.values())

    async def stop(self) -> None:
        self._history_file.close()
        self._faults_file.close()
        await self._cluster.stop()
