"""One history: a cluster, its clients and its faults, from one seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from chaos.simulation.client import Client
from chaos.simulation.disk import SimulatedDisk
from chaos.simulation.evidence import Evidence
from chaos.simulation.faults import SmallLimits, Weather, small_limits
from chaos.simulation.nemesis import Nemesis
from chaos.simulation.network import Network
from chaos.simulation.node import SimulatedNode
from chaos.simulation.promises import Promises
from chaos.simulation.scheduler import Scheduler, Sink
from chaos.simulation.violation import Violation
from chaos.simulation.workload import Workload
from consensus.errors import NotLeader, TooManyProposals
from consensus.membership import Member, Membership
from consensus.messages import Message, VoteResponse
from consensus.raft_core import RaftCore
from storage.commands import DropLedger, encode_group

_STEP_S = 0.02
_RECOVERY_S_MAX = 20.0
_RESTART_S_MIN = 0.005


@dataclass(frozen=True, slots=True)
class History:
    """What happened in one seed: how much of everything, and whether a promise was broken."""

    seed: int
    nodes: int
    counts: Counter[str]
    violation: str | None = None


def play(seed: int, nodes: int, sink: Sink | None = None) -> History:
    """Plays one seed; `sink` takes the transcript line by line."""
    world = World(seed, nodes, sink)
    violation = None
    with SmallLimits(world.limits):
        try:
            world.run()
        except Violation as error:
            violation = str(error)
            world.scheduler.note("VIOLATION", violation)
    return History(seed, nodes, world.counted(), violation)


class World:
    """Everything there is in one history."""

    def __init__(self, seed: int, nodes: int, sink: Sink | None = None) -> None:
        self.scheduler = Scheduler(seed, sink)
        rng = self.scheduler.rng
        self.weather = Weather.drawn(rng, nodes)
        self.limits = small_limits(rng)
        self.scheduler.note("world", f"seed={seed} nodes={nodes} {self.weather} {self.limits}")
        disks: dict[str, SimulatedDisk] = {}
        self.evidence = Evidence(disks)
        self.promises = Promises(self.evidence)
        self.counts: Counter[str] = Counter()
        self._nemesis: Nemesis | None = None
        self.ids = [f"n{number}" for number in range(nodes)]
        self.membership = Membership(
            tuple(Member(each, f"z{number}", "host", number) for number, each in enumerate(self.ids))
        )
        self.network = Network(self.scheduler, self.weather, self._deliver)
        self.nodes = [
            SimulatedNode(node_id, self, rate, self.weather.timing)
            for node_id, rate in zip(self.ids, self.weather.clock_rates, strict=True)
        ]
        disks.update((node.id, node.disk) for node in self.nodes)

    def run(self) -> None:
        """Faults and work, then peace, in which everybody must agree. Raises Violation."""
        for node in self.nodes:
            node.start()
        workload = Workload(self.scheduler.rng)
        weather = self.weather
        clients = [
            Client(f"client{number}", self, workload, weather, reads_only=number >= weather.writers)
            for number in range(weather.writers + weather.readers)
        ]
        nemesis = self._nemesis = Nemesis(self, weather)
        self.scheduler.advance(weather.seconds)
        nemesis.stop()
        for client in clients:
            client.stopped = True
        self._recover()

    def counted(self) -> Counter[str]:
        """How much happened."""
        promises = self.promises
        return self.counts + Counter(
            events=self.scheduler.events,
            leaders=len(promises.leaders),
            contested=self.evidence.contested_terms(),
            committed=promises.committed_index,
            crashes=sum(node.crashes for node in self.nodes),
            dropped=self.network.dropped,
            compacted=sum(node.core is not None and node.core.log.first_index > 1 for node in self.nodes),
            histories=1,
        )

    def _recover(self) -> None:
        """Without faults, a new entry is committed and applied everywhere within a stated time."""
        self.scheduler.note("world", "is healed")
        deadline = self.scheduler.now + _RECOVERY_S_MAX
        last: _Last | None = None
        while self.scheduler.now < deadline:
            self.scheduler.advance(_STEP_S)
            if last is None or last.error is not None:
                last = self._propose_last()
            elif last.told and self._quiet():
                cores = [node.core for node in self.nodes if node.core is not None]
                self.promises.check_end(cores, [node.disk for node in self.nodes])
                return
        raise Violation(f"the healed cluster did not come back in {_RECOVERY_S_MAX} s")

    def _quiet(self) -> bool:
        """Whether every node is up and has applied all there is, late requests of clients included."""
        cores = [node.core for node in self.nodes if node.core is not None]
        last_index = max((core.log.last_index for core in cores), default=0)
        return len(cores) == len(self.nodes) and all(core.applied_index == last_index for core in cores)

    def _propose_last(self) -> _Last | None:
        """An entry on the newest leader, if there is one."""
        leading = [node.core for node in self.nodes if node.core is not None and node.core.leads]
        if not leading:
            return None
        core = max(leading, key=lambda each: each.term)
        last = _Last()
        try:
            last.index = core.propose(encode_group([DropLedger("nothing")]), last)
        except (NotLeader, TooManyProposals):  # NotLeader: it is giving its place away.
            return None
        return last

    # The nodes' surroundings.

    def send(self, source: str, target: str, message: Message, after_s: float) -> None:
        self.evidence.check_message(source, target, message)
        if self._nemesis is not None and isinstance(message, VoteResponse) and message.granted:
            self._nemesis.voted(self.nodes[self.ids.index(source)])
        self.network.send(source, target, message, after_s)

    def _deliver(self, source: str, target: str, message: Message) -> None:
        self.nodes[self.ids.index(target)].receive(source, message)

    def went_down(self, node: SimulatedNode) -> None:
        """Some of the others notice; the supervisor starts it again."""
        for other in self._others(node):
            if self.scheduler.rng.random() < 0.5:
                other.peer_disconnected(node.id)
        restart_s = self.scheduler.rng.uniform(_RESTART_S_MIN, self.weather.restart_s_max)
        self.scheduler.after(restart_s, node.start)

    def came_up(self, node: SimulatedNode) -> None:
        """New links, in both directions."""
        core = node.core
        if core is None:
            return
        for other in self._others(node):
            other.peer_connected(node.id)
            other.peer_greeted(node.id, core.incarnation)
            core.peer_greeted(other.node_id, other.incarnation)
        for node_id in self.ids:
            if node_id != node.id:
                core.peer_connected(node_id)

    def elected(self, node: SimulatedNode) -> None:
        if self._nemesis is not None:
            self._nemesis.elected(node)

    def _others(self, node: SimulatedNode) -> list[RaftCore]:
        return [each.core for each in self.nodes if each is not node and each.core is not None]


class _Last:
    """The completion of the entry that shows that the cluster is back."""

    def __init__(self) -> None:
        self.index = 0
        self.told = False
        self.error: Exception | None = None

    def done(self) -> bool:
        return self.told or self.error is not None

    def set_result(self, result: object) -> None:
        self.told = True

    def set_exception(self, error: Exception) -> None:
        self.error = error
