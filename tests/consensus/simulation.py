"""A cluster of RaftCores on a simulated network, clock and disk: one seed, one history.

Every event is drawn from one seeded generator: delays (hence reordering), loss, duplication, one-way and
two-way partitions, failing disks, and crashes that lose what was staged and some of what was applied but not
yet synced. After every step the promises of Raft are checked (promises.py).
"""

from __future__ import annotations

import contextlib
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from consensus.config import Role, Timing
from consensus.errors import ConsensusError, NotLeader, ReadFailed, TransferFailed
from consensus.log import DurableLog
from consensus.membership import Member as ClusterMember
from consensus.membership import Membership
from consensus.messages import Message, decode_message, encode
from consensus.raft_core import RaftCore
from tests.consensus.promises import Promises, Proposal, Violation

TIMING = Timing(heartbeat_s=0.05, election_s_min=0.3, election_s_max=0.6, leader_fallback_s=0.6)
"""Faster than the defaults, so that a short history sees many elections."""

STEP_S = 0.02


class DiskFailed(OSError):
    """The simulated disk refused a write."""


class Disk:
    """Rows that survive a crash. `write` is atomic and durable, or fails and may have happened or not."""

    def __init__(self, rng: random.Random) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.failure_rate = 0.0
        self.lies = False
        self._before_last_write: dict[bytes, bytes] = {}
        self.on_synced: Callable[[], None] = lambda: None
        self._rng = rng

    def write(
        self, puts: Sequence[tuple[bytes, bytes]], delete_ranges: Sequence[tuple[bytes, bytes]]
    ) -> None:
        if self.lies:
            self._before_last_write = dict(self.rows)
        fails = self.failure_rate > 0 and self._rng.random() < self.failure_rate
        if not fails or self._rng.random() < 0.5:
            for start, end in delete_ranges:
                for key in [key for key in self.rows if start <= key < end]:
                    del self.rows[key]
            self.rows.update(puts)
            self.on_synced()
        if fails:
            raise DiskFailed("simulated")

    def crash(self) -> None:
        """An honest disk keeps everything; one that lies had not written its last batch yet."""
        if self.lies:
            self.rows = self._before_last_write

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(key for key in self.rows if start <= key < end):
            yield key, self.rows[key]


class Machine:
    """The applied payloads; the newest of them, not synced yet, may be gone after a crash."""

    def __init__(self, promises: Promises) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self._promises = promises
        self._durable = 0

    @property
    def applied_index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    def apply(self, index: int, payload: bytes) -> object:
        if index <= self.applied_index:
            raise Violation(f"entry {index} applied after entry {self.applied_index}")
        self._promises.check_applied(index, payload)
        self.applied.append((index, payload))
        return index

    def synced(self) -> None:
        self._durable = len(self.applied)

    def crash(self, rng: random.Random) -> None:
        del self.applied[rng.randint(self._durable, len(self.applied)) :]


class Read:
    """A read barrier that checks, when it passes, that it shows what was acknowledged before it began."""

    def __init__(self, machine: Machine, acknowledged_index: int) -> None:
        self._machine = machine
        self._acknowledged_index = acknowledged_index
        self.passed = False
        self.failed = False

    def done(self) -> bool:
        return self.passed or self.failed

    def set_result(self, result: object) -> None:
        self.passed = True
        if self._machine.applied_index < self._acknowledged_index:
            raise Violation(
                f"a read at {self._machine.applied_index} after {self._acknowledged_index} was acknowledged"
            )

    def set_exception(self, error: ConsensusError) -> None:
        assert isinstance(error, ReadFailed)
        self.failed = True


class Handover:
    """A leadership transfer that remembers what came of it."""

    def __init__(self) -> None:
        self.leader_id: str | None = None
        self.failed = False

    def done(self) -> bool:
        return self.leader_id is not None or self.failed

    def set_result(self, result: object) -> None:
        self.leader_id = str(result)

    def set_exception(self, error: ConsensusError) -> None:
        assert isinstance(error, TransferFailed)
        self.failed = True


@dataclass
class Member:
    """One node: what survives its crashes, and its core while it runs."""

    id: str
    disk: Disk
    machine: Machine
    core: RaftCore | None = None


@dataclass
class Faults:
    """How bad the world is; rates per message, per sync or per simulated second."""

    loss: float = 0.02
    duplication: float = 0.05
    delay_s_max: float = 0.02
    slow_rate: float = 0.02
    partitions_per_s: float = 1.0
    crashes_per_s: float = 0.5
    disk_failure: float = 0.002
    transfers_per_s: float = 0.3
    lying_disks: bool = False


@dataclass(order=True)
class _Event:
    at: float
    order: int
    run: Callable[[], None] = field(compare=False)


class Simulation:
    """`run` plays the faults, `heal` ends them and checks that the cluster comes back whole."""

    def __init__(self, seed: int, *, size: int = 3, faults: Faults | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.faults = faults or Faults()
        self.now = 100.0
        self.promises = Promises()
        self.reads: list[Read] = []
        self.handovers: list[Handover] = []
        self.ids = [f"n{i}" for i in range(size)]
        self._blocked: set[tuple[str, str]] = set()
        self._events: list[_Event] = []
        self._order = 0
        self.members = [Member(node_id, Disk(self.rng), Machine(self.promises)) for node_id in self.ids]
        for member in self.members:
            member.disk.on_synced = member.machine.synced
            member.disk.failure_rate = self.faults.disk_failure
            member.disk.lies = self.faults.lying_disks
            self._start(member)
            self._tick(member)

    def run(self, seconds: float) -> None:
        """Faults and work for so many simulated seconds."""
        end = self.now + seconds
        while self.now < end:
            self._maybe(self.faults.partitions_per_s, self._change_partition)
            self._maybe(self.faults.crashes_per_s, lambda: self.crash(self.rng.choice(self.members)))
            self._work()
            self.advance(STEP_S)

    def heal(self) -> None:
        """No more faults; within ten simulated seconds everybody must agree and take new work."""
        self.faults = Faults(0.0, 0.0, 0.002, 0.0, 0.0, 0.0, 0.0, 0.0, self.faults.lying_disks)
        self.cut(set())
        for member in self.members:
            member.disk.failure_rate = 0.0
        deadline = self.now + 10.0
        last: Proposal | None = None
        while self.now < deadline:
            self.advance(STEP_S)
            if last is None or last.error is not None:
                last = self._propose_on_leader(b"last %f" % self.now)
            elif last.index is not None and self._all_applied(last.index):
                self.promises.check_end(self._cores(), [member.machine.applied for member in self.members])
                return
        raise Violation("the healed cluster did not come back")

    def leader(self) -> RaftCore:
        """The leader of the latest term."""
        return max((core for core in self._cores() if core.leads), key=lambda core: core.term)

    def _all_applied(self, index: int) -> bool:
        return all(member.core is not None and member.core.applied_index >= index for member in self.members)

    def _cores(self) -> list[RaftCore]:
        return [member.core for member in self.members if member.core is not None]

    # Time.

    def after(self, delay_s: float, run: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, _Event(self.now + delay_s, self._order, run))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0].at <= end:
            event = heapq.heappop(self._events)
            self.now = event.at
            event.run()
        self.now = end

    def _maybe(self, rate_per_s: float, act: Callable[[], None]) -> None:
        if self.rng.random() < rate_per_s * STEP_S:
            act()

    # Members.

    def _start(self, member: Member) -> None:
        member.core = RaftCore(
            member.id,
            Membership(tuple(ClusterMember(each, "z", each, 1) for each in self.ids)),
            log=DurableLog(member.disk),
            state_machine=member.machine,
            timing=TIMING,
            clock=lambda: self.now,
            rng=self.rng,
        )
        self.promises.restarted(member.id)
        for other in self.ids:
            if other != member.id:
                member.core.peer_connected(other)
        for core in self._cores():
            core.peer_greeted(member.id, member.core.incarnation)
            member.core.peer_greeted(core.node_id, core.incarnation)

    def crash(self, member: Member) -> None:
        """Everything in memory is gone: what was staged, and who waited for what."""
        if member.core is not None:
            member.core = None
            member.machine.crash(self.rng)
            member.disk.crash()
            for other in self.ids:
                self._lose(member.id, other)
            self.after(self.rng.uniform(0.05, 1.5), lambda: self._start(member))

    def _tick(self, member: Member) -> None:
        self._settle(member)
        self.after(TIMING.tick_s * self.rng.uniform(0.8, 1.3), lambda: self._tick(member))

    def _settle(self, member: Member) -> None:
        if member.core is None:
            return
        try:
            # What is sent in one step is on the wire even if the disk fails in the next.
            for outgoing in member.core.settle():
                for target, messages in outgoing:
                    for message in messages:
                        self._send(member.id, target, message)
        except DiskFailed:
            # Proposals may have been answered before the disk failed; what they were told still counts.
            self.promises.check_acknowledged()
            self.crash(member)
            return
        self.promises.check(member.core)

    # Network.

    def _send(self, source: str, target: str, message: Message) -> None:
        if (source, target) in self._blocked or self.rng.random() < self.faults.loss:
            return
        body = encode(message)
        copies = 2 if self.rng.random() < self.faults.duplication else 1
        for _ in range(copies):
            delay_s = self.rng.uniform(0.0002, self.faults.delay_s_max)
            if self.rng.random() < self.faults.slow_rate:
                delay_s *= 50
            self.after(delay_s, lambda: self._deliver(source, target, body))

    def _lose(self, source: str, target: str) -> None:
        """Mostly, whoever listens to a connection is soon told that its other end is gone."""
        core = self.members[self.ids.index(target)].core
        if core is not None and source != target and self.rng.random() < 0.7:
            self.after(self.rng.uniform(0.0002, 0.1), lambda: core.peer_lost(source))

    def _deliver(self, source: str, target: str, body: bytes) -> None:
        member = self.members[self.ids.index(target)]
        if member.core is not None and (source, target) not in self._blocked:
            try:
                member.core.receive(source, decode_message(body))
            except DiskFailed:
                self.crash(member)
            if self.rng.random() < 0.8:  # Otherwise it waits, staged, for the next message or tick.
                self._settle(member)

    def _change_partition(self) -> None:
        """Heals, isolates one member, or cuts one direction of one link."""
        kind = self.rng.randrange(3)
        alone, other = self.rng.sample(self.ids, 2)
        if kind == 0:
            self.cut(set())
        elif kind == 1:
            rest = [each for each in self.ids if each != alone]
            self.cut({(alone, each) for each in rest} | {(each, alone) for each in rest})
        else:
            self.cut({(alone, other)})

    def cut(self, blocked: set[tuple[str, str]]) -> None:
        """Blocks these (sender, receiver) links and no others.

        Some senders notice that a link is gone, as TCP sometimes does; all notice that it is back.
        """
        for source, target in sorted(self._blocked ^ blocked):
            core = self.members[self.ids.index(source)].core
            if core is not None and (source, target) not in blocked:
                core.peer_connected(target)
            elif core is not None and self.rng.random() < 0.5:
                core.peer_disconnected(target)
                self._lose(source, target)
        self._blocked = blocked

    # Work.

    def _work(self) -> None:
        for member in self.members:
            if member.core is None or member.core.role is not Role.LEADER:
                continue
            for _ in range(self.rng.choice((0, 0, 1, 1, 2, 12))):
                self._propose(member.core, b"%d" % len(self.promises.proposals))
            if self.rng.random() < 0.3:
                read = Read(member.machine, self.promises.acknowledged_index)
                member.core.read(read)
                self.reads.append(read)
            self._maybe(self.faults.transfers_per_s, partial(self._transfer, member.core))
            if self.rng.random() < 0.7:
                self._settle(member)

    def _propose(self, core: RaftCore, payload: bytes) -> Proposal:
        proposal = Proposal(payload)
        try:
            core.propose(payload, proposal)
        except NotLeader as error:  # It is giving its place to another member.
            proposal.set_exception(error)
        self.promises.proposals.append(proposal)
        return proposal

    def _transfer(self, core: RaftCore) -> None:
        """To a random member, or to the one it chooses; what comes of it is not foreseen."""
        with contextlib.suppress(TransferFailed):
            handover = Handover()
            core.transfer(self.rng.choice([None, *self.ids]), handover)
            self.handovers.append(handover)

    def _propose_on_leader(self, payload: bytes) -> Proposal | None:
        leading = [core for core in self._cores() if core.role is Role.LEADER]
        if not leading:
            return None
        return self._propose(max(leading, key=lambda core: core.term), payload)
