"""Chooses fault after fault from a seed, and keeps the record of what happened."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from chaos.checkers.anomaly import Anomaly
from chaos.faults import clocks
from chaos.faults.disks import BitFlip, FailingDisk, PowerLoss, TornWrite, WipedDisk
from chaos.faults.fault import Fault, Happened, Then
from chaos.faults.operations import CertificateRotation, MembershipChange, RollingRestart, Transfer
from chaos.faults.partitions import (
    BANDWIDTH,
    DELAY,
    DUPLICATION,
    JITTER,
    REORDERING,
    Loss,
    Partition,
    Shaped,
    between,
    bridge,
    isolated,
    one_way,
    ring,
)
from chaos.faults.processes import Kill, Pause, Restart, zone_lost
from chaos.faults.upgrades import RollingUpgrade
from chaos.lab.cluster import Cluster
from chaos.lab.disk import Disk, DiskMode
from chaos.lab.network import Shape
from chaos.lab.node import Node
from chaos.schedule import Step

_HOLD_S = (0.5, 4.0)
_CALM_S = (0.5, 3.0)
_AIM_AT_LEADER = 0.5
_SECOND_AFTER_S = 1.0


class Nemesis:
    """One fault at a time on `cluster`, each healed before the next. `record` takes each when it is over."""

    def __init__(
        self,
        cluster: Cluster,
        rng: random.Random,
        record: Callable[[Happened], None],
        build: Sequence[Path],
        found: Callable[[Anomaly], None],
    ) -> None:
        """`build`: where the packages of the build lie that nodes are upgraded to. `found` takes what broke
        without a fault."""
        self._cluster = cluster
        self._build = build
        self._rng = rng
        self._record = record
        self._found = found
        self._makers: Mapping[str, Callable[[Node], Fault]] = {
            "kill": lambda node: Kill([node]),
            "kill a majority": self._kill_majority,
            "kill all": lambda node: Kill(list(cluster.nodes.values()), "kill all"),
            "zone lost": lambda node: zone_lost(cluster, node.zone),
            "pause": lambda node: Pause([node]),
            "restart": lambda node: Restart(node),
            "isolate": lambda node: self._partition(
                isolated(node.id, cluster.nodes, clients=False), "isolate", node
            ),
            "isolate from clients, too": lambda node: self._partition(
                isolated(node.id, cluster.nodes, clients=True), "isolate from clients, too", node
            ),
            "one way": lambda node: self._partition(one_way(node.id, cluster.nodes), "one way", node),
            "zone cut off": self._zone_cut_off,
            "split": self._split,
            "bridge": self._bridge,
            "ring": lambda node: self._partition(ring(list(cluster.nodes)), "ring", node),
            "loss": self._loss,
            "isolate, then kill": self._isolate_then_kill,
            **self._shapes(),
            **self._disks(),
            **self._operations(),
        }
        self._kinds = list(self._makers)

    def only(self, kinds: Sequence[str]) -> None:
        """Chooses among these from now on. Raises ValueError when one is unknown, or cannot be made here."""
        unknown = [kind for kind in kinds if kind not in self._makers]
        if unknown:
            raise ValueError(
                f"no such faults here: {', '.join(unknown)}; there are {', '.join(self._makers)}"
            )
        self._kinds = list(kinds)

    def _disks(self) -> dict[str, Callable[[Node], Fault]]:
        makers: dict[str, Callable[[Node], Fault]] = {}
        nodes = self._cluster.nodes.values()
        if all(node.disk is not None for node in nodes):
            for mode in get_args(DiskMode)[1:]:
                makers[f"disk {mode}"] = partial(_failing, mode=mode)
        if all(node.keeps_what_was_synced for node in nodes):
            makers["torn write"] = partial(_torn, rng=self._rng)
            makers["power loss"] = lambda node: PowerLoss([node])
            makers["power loss of all"] = lambda _: PowerLoss(list(nodes), "power loss of all")
        if len(nodes) > 2:
            makers["disk wiped"] = partial(WipedDisk, self._cluster)
            makers["bit flip"] = partial(BitFlip, self._cluster, rng=self._rng)
        return makers

    def _shapes(self) -> dict[str, Callable[[Node], Fault]]:
        kinds = {"delay": DELAY, "jitter": JITTER, "bandwidth": BANDWIDTH}
        if self._cluster.network.reorders:
            kinds |= {"duplication": DUPLICATION, "reordering": REORDERING}
        return {kind: partial(self._shaped, kind=kind, shape=shape) for kind, shape in kinds.items()}

    def _shaped(self, node: Node, kind: str, shape: Shape) -> Fault:
        links = isolated(node.id, self._cluster.nodes, clients=False)
        return Shaped(self._cluster.network, links, shape, kind, [node.id])

    def _operations(self) -> dict[str, Callable[[Node], Fault]]:
        makers: dict[str, Callable[[Node], Fault]] = {
            "membership change": lambda _: MembershipChange(self._cluster),
            "leadership transfer": lambda _: Transfer(self._cluster),
            "rolling restart": lambda _: RollingRestart(self._cluster),
            "certificate rotation": partial(CertificateRotation, self._cluster),
            "rolling upgrade": lambda _: RollingUpgrade(self._cluster, self._build),
        }
        faketime = clocks.library()
        if faketime is not None:
            makers["clock skew"] = lambda node: clocks.ClockSkew(
                node, faketime, self._rng.choice((-3600, -60, 60, 3600))
            )
        return makers

    async def run(self, stopped: asyncio.Event) -> None:
        """Until `stopped`; ends with everything healed."""
        kinds = list(self._kinds)
        while not await _waited(stopped, self._rng.uniform(*_CALM_S)):
            # Every kind in turn, in a random order, so that a short run sees many of them.
            if not kinds:
                kinds = list(self._kinds)
            kind = kinds.pop(self._rng.randrange(len(kinds)))
            await self._look_for_the_dead()
            victim = await self._victim()
            await self._once(self._makers[kind](victim), self._rng.uniform(*_HOLD_S))

    async def play(self, steps: Sequence[Step], stopped: asyncio.Event) -> None:
        """Each fault at its time; ends with everything healed. Raises ValueError for a kind there is not."""
        self.only([step.kind for step in steps])
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                tasks.create_task(self._step(step, stopped))

    async def _step(self, step: Step, stopped: asyncio.Event) -> None:
        if await _waited(stopped, step.at_s):
            return
        await self._once(self._makers[step.kind](await self._aim(step.target)), step.hold_s)

    async def _aim(self, target: str) -> Node:
        """What `target` of a schedule means now; while nobody leads, any node stands in."""
        nodes = self._cluster.nodes
        leader = await self._cluster.leader() if target in ("leader", "follower") else None
        if target == "leader" and leader is not None:
            return leader
        if target in nodes:
            return nodes[target]
        fitting = [node for node in nodes.values() if node.zone == target or (leader and node is not leader)]
        return self._rng.choice(fitting or list(nodes.values()))

    async def _look_for_the_dead(self) -> None:
        """Between faults all nodes run; one that does not has ended by itself."""
        for node in self._cluster.nodes.values():
            if node.pid is None:
                what = f"{node.id} ended with {node.exit_code}, between faults; see {node.place.log_file}"
                self._found(Anomaly("a node ends only when its disk fails", what))
                await node.start()

    async def _victim(self) -> Node:
        if self._rng.random() < _AIM_AT_LEADER:
            leader = await self._cluster.leader()
            if leader is not None:
                return leader
        return self._rng.choice(list(self._cluster.nodes.values()))

    async def _once(self, fault: Fault, hold_s: float) -> None:
        """One that the cluster did not get ready for, or get over, is none that happened, but an anomaly."""
        began_ns = time.monotonic_ns()
        evidence = ""
        try:
            try:
                await fault.inject()
                # To its end, also when the run is over: a fault that is healed at once leaves no trace.
                await asyncio.sleep(hold_s)
            finally:
                evidence = await fault.heal()
        except TimeoutError as error:
            self._found(Anomaly("a healed cluster is whole again", f"at {fault.kind}: {error}"))
            return
        self._record(
            Happened(
                kind=fault.kind,
                targets=fault.targets,
                began_ns=began_ns,
                healed_ns=time.monotonic_ns(),
                evidence=evidence,
            )
        )

    # Shapes that need a choice.

    def _some(self, count: int) -> list[Node]:
        return self._rng.sample(list(self._cluster.nodes.values()), count)

    def _kill_majority(self, _: Node) -> Fault:
        return Kill(self._some(len(self._cluster.nodes) // 2 + 1), "kill a majority")

    def _partition(self, links: list[tuple[str, str]], kind: str, node: Node) -> Fault:
        return Partition(self._cluster.network, links, kind, [node.id])

    def _zone_cut_off(self, node: Node) -> Fault:
        zones = self._cluster.zones
        inside = [each for each, zone in zones.items() if zone == node.zone]
        outside = [each for each in zones if each not in inside]
        return Partition(self._cluster.network, between(inside, outside), "zone cut off", inside)

    def _split(self, _: Node) -> Fault:
        some = [each.id for each in self._some(len(self._cluster.nodes) // 2)]
        others = [each for each in self._cluster.nodes if each not in some]
        return Partition(self._cluster.network, between(some, others), "split", some)

    def _bridge(self, node: Node) -> Fault:
        others = [each for each in self._cluster.nodes if each != node.id]
        half = len(others) // 2
        return self._partition(bridge(node.id, others[:half], others[half:]), "bridge", node)

    def _isolate_then_kill(self, node: Node) -> Fault:
        """A leader cut off writes what nobody else will have, and dies with it on its disk."""
        links = isolated(node.id, self._cluster.nodes, clients=False)
        return Then(self._partition(links, "isolate", node), Kill([node]), _SECOND_AFTER_S)

    def _loss(self, node: Node) -> Fault:
        links = isolated(node.id, self._cluster.nodes, clients=False)
        return Loss(self._cluster.network, links, self._rng.choice((5, 15, 30)), [node.id])


def _failing(node: Node, mode: DiskMode) -> Fault:
    return FailingDisk(node, _disk_of(node), mode)


def _disk_of(node: Node) -> Disk:
    if node.disk is None:
        raise RuntimeError(f"{node.id} has no shim before its disk")
    return node.disk


def _torn(node: Node, rng: random.Random) -> Fault:
    return TornWrite(node, _disk_of(node), rng)


async def _waited(stopped: asyncio.Event, seconds: float) -> bool:
    """Waits so long, or until `stopped`; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        return False
    return True
