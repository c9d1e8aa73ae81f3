"""Clients: what they ask for, and what they make of the answers.

A client waits for one answer at a time. One that never comes leaves the outcome unknown; the client then
mostly tries again elsewhere under the same idempotency key, as the SDK does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from chaos.simulation.faults import Weather
from chaos.simulation.model import Place, Shown
from chaos.simulation.node import SimulatedNode
from chaos.simulation.promises import Promises
from chaos.simulation.scheduler import Scheduler
from chaos.simulation.violation import Violation
from chaos.simulation.workload import Make, Workload
from consensus.errors import ConsensusError, NotLeader, OutcomeUnknown, ReadFailed, TooManyProposals
from consensus.raft_core import RaftCore
from storage.commands import encode_group
from storage.errors import TableDropped, TableUnknown
from storage.view import View

_TIMEOUT_S = (0.05, 0.5)
_SEALS = 0.2
"""How many of the writes come with a seal."""
_BURST_RATE = 0.05


class Everything(Protocol):
    """What a client needs of the world."""

    scheduler: Scheduler
    promises: Promises
    nodes: list[SimulatedNode]
    counts: Counter[str]


@dataclass(slots=True)
class _Call:
    """One request under way; a completion of the core's."""

    client: Client
    node: SimulatedNode
    floor: int
    finished: bool = False

    def done(self) -> bool:
        return self.finished

    def set_exception(self, error: ConsensusError) -> None:
        if not isinstance(error, OutcomeUnknown | ReadFailed):
            raise Violation(f"a client was told {error!r}")
        self.finished = True
        self.client.unknown(self, error)


@dataclass(slots=True)
class _Write(_Call):
    payload: bytes = b""
    index: int = 0

    def set_result(self, result: object) -> None:
        self.finished = True
        self.client.promises.check_acknowledged(self.index, self.payload, self.floor, result)
        self.client.acknowledged(self, result)


@dataclass(slots=True)
class _Read(_Call):
    place: Place = ("", "", "")
    core: RaftCore | None = None
    commit_index: int = 0

    def set_result(self, result: object) -> None:
        self.finished = True
        if self.core is not None and self.core.applied_index < self.commit_index:
            raise Violation(
                f"a read at {self.core.applied_index} began when {self.commit_index} was committed"
            )
        shown = _shown_by(self.node, self.place)
        self.client.promises.check_read(self.place, self.node.machine.applied_index, self.floor, shown)
        self.client.read(self, shown)


def _shown_by(node: SimulatedNode, place: Place) -> Shown | None:
    """The live document at `place` as the newest view of a node shows it."""
    ledger, table, key = place
    state = node.machine.ledgers.get(ledger)
    if state is None:
        return None
    try:
        revision = View(node.disk, state, state.size - 1).get(table, key)
    except (TableUnknown, TableDropped):
        return None
    if revision is None or revision.op == "delete":
        return None
    return Shown(revision.version, revision.payload)


class Client:
    """Asks one node after the other."""

    def __init__(
        self, name: str, world: Everything, workload: Workload, weather: Weather, *, reads_only: bool
    ) -> None:
        self.name = name
        self.promises = world.promises
        self._world = world
        self._scheduler = world.scheduler
        self._workload = workload
        self._interval_s = weather.request_interval_s
        self._burst = weather.burst
        self._reads_only = reads_only
        self._node = self._scheduler.rng.choice(world.nodes)
        self._call: _Call | None = None
        self._asked: Make | None = None
        self._deadline = 0.0
        self.stopped = False
        self._plan()

    def _plan(self) -> None:
        self._scheduler.after(self._scheduler.rng.uniform(0.0, 2 * self._interval_s), self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        self._plan()
        now = self._scheduler.now
        if self._call is not None and not self._call.finished:
            if now < self._deadline:
                return
            # Some ask again where they asked: entries gather on a leader that is cut off, and reads too.
            if self._scheduler.rng.random() < 0.5:
                self._go_elsewhere()
        self._call = None
        self._deadline = now + self._scheduler.rng.uniform(*_TIMEOUT_S)
        if self._reads_only and self._scheduler.rng.random() < 0.5:
            self._go_elsewhere()
        if not self._reads_only and self._scheduler.rng.random() < _BURST_RATE:
            for _ in range(self._burst):
                self._propose(self._workload.request())
        if self._reads_only or (self._asked is None and self._scheduler.rng.random() < 0.2):
            self._start_read()
        else:
            self._start_write()

    def _go_elsewhere(self, leader_id: str | None = None) -> None:
        """To whom it was told to go, or to anybody; readers mostly know who leads, old leaders included."""
        known = [node for node in self._world.nodes if node.id == leader_id]
        if not known and self._reads_only and self._scheduler.rng.random() < 0.8:
            known = [node for node in self._world.nodes if node.leads]
        self._node = self._scheduler.rng.choice(known or self._world.nodes)

    def _start_write(self) -> None:
        if self._asked is not None and self._scheduler.rng.random() < 0.2:
            self._asked = None  # Gives up, and never learns what became of it.
        self._asked = self._asked or self._workload.request()
        self._call = self._propose(self._asked)

    def _propose(self, asked: Make) -> _Write:
        node = self._node
        write = _Write(self, node, self.promises.shown_index)

        def propose(core: RaftCore) -> None:
            # The floor is taken when the request begins; that it is later at the node only makes it stricter.
            write.floor = self.promises.shown_index
            commands = list(asked(node.stamps))
            # A seal for some ledger stands among what clients ask for, as the leader puts it there.
            if self._scheduler.rng.random() < _SEALS:
                place = self._scheduler.rng.randint(0, len(commands))
                commands[place:place] = node.seal(self._workload.place()[0])
            write.payload = encode_group(commands)
            write.index = core.propose(write.payload, write)
            self._scheduler.note(node.id, f"appends {write.index} for {self.name}", write.payload)

        self._ask(node, propose, write)
        return write

    def _start_read(self) -> None:
        node = self._node
        read = _Read(self, node, self.promises.shown_index, place=self._workload.place())
        self._call = read

        def begin(core: RaftCore) -> None:
            read.floor = self.promises.shown_index
            read.core, read.commit_index = core, core.commit_index
            core.read(read)

        self._ask(node, begin, read)

    def _ask(self, node: SimulatedNode, request: Callable[[RaftCore], None], call: _Call) -> None:
        def put(core: RaftCore) -> None:
            try:
                request(core)
            except NotLeader as error:
                call.finished = True
                self._world.counts["refused"] += 1
                self._go_elsewhere(error.leader_id)
            except (TooManyProposals, ReadFailed):
                call.finished = True
                self._world.counts["refused"] += 1

        node.ask(put)

    # What becomes of a call. A late answer to one that was given up is an answer too.

    def acknowledged(self, write: _Write, result: object) -> None:
        self._world.counts["acknowledged"] += 1
        self._scheduler.note(self.name, f"is told {write.index}", result)
        if isinstance(result, list):
            self._workload.learn(result)
        if self._call is write:
            self._asked = None

    def read(self, read: _Read, shown: Shown | None) -> None:
        self._world.counts["reads"] += 1
        self._scheduler.note(self.name, "reads", read.place, shown)
        if shown is not None:
            self._workload.saw(read.place, shown.version)

    def unknown(self, call: _Call, error: ConsensusError) -> None:
        self._world.counts["unknown"] += 1
        self._scheduler.note(self.name, "is told nothing:", error)
        if self._call is call:
            self._go_elsewhere()
