"""One history: a cluster, its clients and its faults, from one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from chaos.simulation.client import Client
from chaos.simulation.evidence import Evidence
from chaos.simulation.faults import CLOCK_RATES, SmallLimits, Weather, small_limits, small_storage_limits
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
_GREETING_S_MAX = 0.05
_LOST_S_MAX = 0.1


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

    def __init__(
        self, seed: int, nodes: int, sink: Sink | None = None, weather: Weather | None = None
    ) -> None:
        self.scheduler = Scheduler(seed, sink)
        rng = self.scheduler.rng
        self.weather = weather or Weather.drawn(rng)
        self.limits = small_limits(rng) | small_storage_limits(seed)
        self.scheduler.note("world", f"seed={seed} nodes={nodes} {self.weather} {self.limits}")
        self._by_id: dict[str, SimulatedNode] = {}
        self.evidence = Evidence(self._by_id)
        self.promises = Promises(self.evidence)
        self.counts: Counter[str] = Counter()
        self._nemesis: Nemesis | None = None
        self.healed = False
        self.ids: list[str] = []
        self.nodes: list[SimulatedNode] = []
        self.network = Network(self.scheduler, self.weather, self._deliver)
        bootstrap = Membership(
            tuple(Member(f"n{number}", f"z{number}", "host", number) for number in range(nodes))
        )
        for member in bootstrap.members:
            self._add_node(member.id, bootstrap)

    def _add_node(self, node_id: str, bootstrap: Membership) -> SimulatedNode:
        rate = self.scheduler.rng.choice((1.0, 1.0, self.scheduler.rng.uniform(*CLOCK_RATES)))
        node = self._by_id[node_id] = SimulatedNode(node_id, self, rate, bootstrap)
        self.ids.append(node_id)
        self.nodes.append(node)
        return node

    def node(self, node_id: str) -> SimulatedNode:
        return self._by_id[node_id]

    def new_node(self) -> SimulatedNode:
        """One more, with an empty disk, which waits to be added."""
        node = self._add_node(f"n{len(self.nodes)}", Membership())
        node.start()
        return node

    def leader(self) -> RaftCore | None:
        """The newest, if anybody leads."""
        leading = [node.core for node in self.nodes if node.core is not None and node.core.leads]
        return max(leading, key=lambda core: core.term, default=None)

    def start(self) -> None:
        """Starts all nodes."""
        for node in self.nodes:
            node.start()

    def run(self) -> None:
        """Faults and work, then peace, in which everybody must agree. Raises Violation."""
        self.start()
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
        self.recover()

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
            memberships=self.promises.memberships,
            histories=1,
        )

    def recover(self) -> None:
        """Without faults, a new entry is committed and applied everywhere within a stated time."""
        self.healed = True
        self.scheduler.note("world", "is healed")
        recovery_s = _RECOVERY_S_MAX + self._snapshots_s()
        deadline = self.scheduler.now + recovery_s
        last: _Last | None = None
        while self.scheduler.now < deadline:
            self.scheduler.advance(_STEP_S)
            if last is None or last.error is not None:
                last = self._propose_last()
            elif last.told and self._quiet():
                members = [node for node in self.nodes if node.id in self._members()]
                cores = [node.core for node in members if node.core is not None]
                self.promises.check_end(cores, [node.disk for node in members])
                return
        raise Violation(f"the healed cluster did not come back in {recovery_s:.0f} s")

    def _snapshots_s(self) -> float:
        """How long it takes to bring everybody a snapshot, at the rate of this history. Twice, because one
        may be given up when its leader falls."""
        size_bytes = max(node.disk.size_bytes for node in self.nodes)
        return 2 * len(self.nodes) * size_bytes / self.weather.catch_up.rate_bytes_s

    def _members(self) -> frozenset[str]:
        """Who must come back: whoever belongs to the cluster."""
        leader = self.leader()
        return frozenset() if leader is None else leader.membership.ids

    def _quiet(self) -> bool:
        """Whether every member is up and has applied all there is, late requests of clients included, and
        whoever lost its disk has its vote again."""
        leader = self.leader()
        if leader is None or not leader.membership_committed:
            return False
        for member in leader.membership.members:
            core = self.node(member.id).core
            if core is None or core.applied_index != leader.log.last_index or member.returning:
                return False
            if member.voter and core.incarnation != member.incarnation:
                return False
        return True

    def _propose_last(self) -> _Last | None:
        """An entry on the newest leader, if there is one."""
        core = self.leader()
        if core is None:
            return None
        last = _Last()
        try:
            last.index = core.propose(encode_group([DropLedger("nothing")]), last)
        except (NotLeader, TooManyProposals):  # NotLeader: it is giving its place away.
            return None
        return last

    # The nodes' surroundings.

    def send(self, source: SimulatedNode, target: str, message: Message, after_s: float) -> None:
        if target not in self._by_id:
            raise Violation(f"{source.id} sends to {target}, which nobody has heard of")
        self.evidence.check_message(source.id, target, message)
        if self._nemesis is not None and isinstance(message, VoteResponse) and message.granted:
            self._nemesis.voted(source)
        self.network.send(source.id, target, source.life, message, after_s)

    def _deliver(self, source: str, target: str, life: int, message: Message) -> None:
        self.node(target).receive(self.node(source), life, message)

    def block(self, links: Iterable[tuple[str, str]]) -> None:
        """Cuts these links (sender, receiver) and no others. Some senders notice that one is gone, as TCP
        sometimes does, and so do receivers; all notice that it is back."""
        before, self.network.blocked = self.network.blocked, frozenset(links)
        for source, target in sorted(before ^ self.network.blocked):
            core = self.node(source).core
            if core is None:
                continue
            if (source, target) in before:
                core.peer_connected(target)
            elif self.scheduler.rng.random() < 0.5:
                core.peer_disconnected(target)
                self._lose(source, target)
        self.scheduler.note("network", "blocks", sorted(f"{a}>{b}" for a, b in self.network.blocked))

    def _lose(self, source: str, target: str) -> None:
        """Mostly, whoever listens to a connection is soon told that its other end is gone."""
        if self.scheduler.rng.random() < 0.7:
            delay_s = self.scheduler.rng.uniform(0.0002, _LOST_S_MAX)
            self.scheduler.after(delay_s, lambda: self.node(target).ask(lambda core: core.peer_lost(source)))

    def went_down(self, node: SimulatedNode) -> None:
        """Some of the others notice; the supervisor starts it again."""
        for other in self._others(node):
            self._lose(node.id, other.node_id)
            if self.scheduler.rng.random() < 0.5:
                other.peer_disconnected(node.id)
        restart_s = self.scheduler.rng.uniform(_RESTART_S_MIN, self.weather.restart_s_max)
        self.scheduler.after(restart_s, node.start)

    def came_up(self, node: SimulatedNode) -> None:
        """New connections, in both directions; what is said first on each comes when the network lets it."""
        core = node.core
        if core is None:
            return
        for other in self.nodes:
            if other is node:
                continue
            core.peer_connected(other.id)
            if other.core is not None:
                other.core.peer_connected(node.id)
                self._greet(node, other)
                self._greet(other, node)

    def _greet(self, source: SimulatedNode, target: SimulatedNode) -> None:
        if (source.id, target.id) not in self.network.blocked:
            delay_s = self.scheduler.rng.uniform(0.0002, _GREETING_S_MAX)
            self.scheduler.after(delay_s, lambda: target.greet(source))

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
