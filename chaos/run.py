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
from typing import NamedTuple

import aiohttp
import msgspec

from chaos import folder, limits, report
from chaos.availability import longest_by_fault
from chaos.checkers import bank, checkpoints, cycles, leaks, ledger, registers
from chaos.checkers.anomaly import Anomaly
from chaos.checkers.replicas import check_disks, check_exports, journal_of
from chaos.faults.fault import Happened
from chaos.history import HistoryFile, Operation
from chaos.lab import namespaces
from chaos.lab.cluster import Cluster, zones_of
from chaos.lab.namespaces import Namespaces
from chaos.lab.network import Network
from chaos.lab.proxies import Proxies
from chaos.nemesis import Nemesis
from chaos.observer import Observer
from chaos.schedule import Schedule
from chaos.workloads.client import LEDGER, TABLE, Client, new_session
from chaos.workloads.mix import ACCOUNTS, OPENING_BALANCE, Mix
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
    history: list[Operation] = field(default_factory=list)
    faults: list[Happened] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)
    samples: list[leaks.Sample] = field(default_factory=list)
    began_ns: int = 0
    ended_ns: int = 0


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
    progress("judging")
    _judge_alone(result)
    if collected is not None:
        _judge(result, collected)
    result.anomalies += check_disks(lab.data, progress)
    result.anomalies += _late(result)
    folder.write_verdict(plan.folder, _verdict(result))
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
        scenario="" if plan.schedule is None else plan.schedule.name,
    )


def _revision() -> str:
    """The commit of the source that runs, empty when there is none to tell."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def _verdict(result: Run) -> folder.Verdict:
    return folder.Verdict(
        passed=not result.anomalies,
        began_ns=result.began_ns,
        ended_ns=result.ended_ns,
        operations=len(result.history),
        faults=dict(Counter(fault.kind for fault in result.faults)),
        unavailable_s=longest_by_fault(result.history, result.faults),
        broken=folder.broken(result.anomalies),
    )


def _late(result: Run) -> list[Anomaly]:
    """Faults of a scenario after which writes took longer to resume than it allows."""
    schedule = result.plan.schedule
    if schedule is None or schedule.writes_resume_s is None:
        return []
    allowed_s = schedule.writes_resume_s
    return [
        Anomaly("writes resume in time", f"{kind}: {max(found):.2f} s, and {allowed_s:g} s are allowed")
        for kind, found in longest_by_fault(result.history, result.faults).items()
        if max(found) > allowed_s
    ]


def _judge(result: Run, collected: Collected) -> None:
    exports, verifier_key = collected
    result.anomalies += check_exports(exports, verifier_key)
    journal = journal_of(next(iter(exports.values())), TABLE)
    result.anomalies += ledger.check(result.history, journal)
    result.anomalies += checkpoints.check(result.held, result.refuted, next(iter(exports.values())))
    result.anomalies += bank.check(journal, ACCOUNTS, len(ACCOUNTS) * OPENING_BALANCE)


def _judge_alone(result: Run) -> None:
    """What needs no journal."""
    result.anomalies += registers.check(result.history, timeout_s=limits.SEARCH_TIMEOUT_S)
    result.anomalies += cycles.check(result.history)
    result.anomalies += leaks.check(result.samples)
    result.anomalies += [
        Anomaly("every fault takes effect", f"{fault.kind} of {', '.join(fault.targets)} left no trace")
        for fault in result.faults
        if not fault.evidence
    ]


def network_of(zones: dict[str, str]) -> Network:
    """Namespaces when this process has been taken into them, else proxies."""
    return Namespaces(zones) if namespaces.inside() else Proxies(zones)


class Collected(NamedTuple):
    """Every node's own export of the journal, and the ledger's verifier key."""

    exports: dict[str, Sequence[bytes]]
    verifier_key: str


class Laboratory:
    """The moving parts of one run."""

    def __init__(self, plan: Plan, progress: Callable[[str], None]) -> None:
        self.result = Run(plan)
        self._plan = plan
        self._progress = progress
        self._rng = random.Random(plan.seed)
        zones = zones_of(plan.nodes, plan.zones)
        self._cluster = Cluster(plan.folder / "cluster", zones, network_of(zones))
        self._history_file = HistoryFile(plan.folder / "history.jsonl")
        self._faults_file = (plan.folder / "faults.jsonl").open("wb")

    @property
    def data(self) -> dict[str, Path]:
        return {node.id: node.place.data for node in self._cluster.nodes.values()}

    async def start(self) -> None:
        self._progress(f"starting {self._plan.nodes} nodes in {self._plan.zones} zones")
        for node in self._cluster.nodes.values():
            node.environment.update(self._plan.environment)
        await self._cluster.start()
        async with aiohttp.ClientSession() as session:
            for path in (LEDGER, f"{LEDGER}/tables/{TABLE}"):
                await self._create(session, path)

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
        mix = Mix(random.Random(self._rng.random()), self._plan.clients)
        self.result.began_ns = time.monotonic_ns()
        async with new_session() as session:
            clients = [self._client(number, session) for number in range(self._plan.clients)]
            await mix.open_accounts(clients[0])
            nemesis = Nemesis(self._cluster, random.Random(self._rng.random()), self._happened)
            if self._plan.kinds:
                nemesis.only(self._plan.kinds)
            schedule = self._plan.schedule
            breaking = nemesis.run(stopped) if schedule is None else nemesis.play(schedule.faults, stopped)
            verifier = Verifier(
                self._cluster.endpoints, await self._verifier_key(), random.Random(self._rng.random())
            )
            self.result.held, self.result.refuted = verifier.held, verifier.refuted
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._observer().run(stopped))
                tasks.create_task(verifier.work(stopped))
                tasks.create_task(self._sample(stopped))
                tasks.create_task(breaking)
                for client in clients:
                    tasks.create_task(mix.work(client, stopped))
                await self._wait(stopped)
        self.result.ended_ns = time.monotonic_ns()

    def _observer(self) -> Observer:
        endpoints = {node.id: node.http for node in self._cluster.nodes.values()}
        return Observer(endpoints, self._plan.folder / "nodes.jsonl")

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
                f"{len(self.result.history):,} operations, {len(self.result.faults)} faults, "
                f"{max(left_s - limits.PROGRESS_PERIOD_S, 0):.0f} s left"
            )
        stopped.set()

    def _client(self, number: int, session: aiohttp.ClientSession) -> Client:
        rng = random.Random(self._rng.random())
        return Client(number, session, self._cluster.endpoints, rng, self._ended)

    def _ended(self, operation: Operation) -> None:
        self.result.history.append(operation)
        self._history_file.add(operation)

    def _happened(self, fault: Happened) -> None:
        self.result.faults.append(fault)
        self._faults_file.write(msgspec.json.encode(fault) + b"\n")
        self._progress(f"{fault.kind}: {', '.join(fault.targets)} ({fault.evidence or 'NO EVIDENCE'})")

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
        async with aiohttp.ClientSession() as session:
            await self._until_equal(session)
            exports: dict[str, Sequence[bytes]] = {}
            for node in self._cluster.nodes.values():
                url = f"{node.http}/v1/ledgers/{LEDGER}/export?consistency=snapshot"
                async with session.get(url) as answer:
                    exports[node.id] = (await answer.read()).splitlines()
        return Collected(exports, await self._verifier_key())

    async def _until_equal(self, session: aiohttp.ClientSession) -> None:
        """Raises TimeoutError."""
        sizes: list[int] = []
        try:
            async with asyncio.timeout(limits.CONVERGE_TIMEOUT_S):
                while len(sizes) < len(self._cluster.nodes) or len(set(sizes)) > 1:
                    await asyncio.sleep(limits.POLL_S)
                    sizes = [await _size(session, endpoint) for endpoint in self._cluster.endpoints]
        except TimeoutError as error:
            raise TimeoutError(f"the healed nodes do not agree: journals of {sizes} blocks") from error

    async def stop(self) -> None:
        self._history_file.close()
        self._faults_file.close()
        await self._cluster.stop()


async def _size(session: aiohttp.ClientSession, endpoint: str) -> int:
    async with session.get(f"{endpoint}/v1/ledgers/{LEDGER}?consistency=snapshot") as answer:
        return int((await answer.json())["size"]) if answer.status == 200 else -1
