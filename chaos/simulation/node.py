"""One node: the real consensus core, log and ledger machine on a simulated disk, clock and network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from chaos.simulation.disk import DiskFailed, Fate, PowerLost, SimulatedDisk
from chaos.simulation.promises import Promises, Violation
from chaos.simulation.scheduler import Scheduler
from consensus.config import Role, Timing
from consensus.log import DurableLog
from consensus.messages import Message
from consensus.raft_core import RaftCore
from node.stamps import Stamps
from storage.machine import LedgerMachine
from storage.outcomes import Outcome

# Quick elections, whatever the defaults are: more happens in a virtual second.
TIMING = Timing(heartbeat_s=0.05, election_s_min=0.3, election_s_max=0.6, leader_fallback_s=0.6, tick_s=0.02)
_START_US = 1_790_000_000_000_000
_SYNC_S_MAX = 0.003


class Surroundings(Protocol):
    """What a node needs of the world around it."""

    scheduler: Scheduler
    promises: Promises
    ids: list[str]

    def send(self, source: str, target: str, message: Message, after_s: float) -> None: ...
    def went_down(self, node: SimulatedNode) -> None: ...
    def came_up(self, node: SimulatedNode) -> None: ...


class _CheckedMachine:
    """The ledger machine, with every entry compared between the nodes."""

    def __init__(self, node_id: str, disk: SimulatedDisk, promises: Promises) -> None:
        self.ledgers = LedgerMachine(disk)
        self._node_id = node_id
        self._disk = disk
        self._promises = promises

    @property
    def applied_index(self) -> int:
        return self.ledgers.applied_index

    def apply(self, index: int, payload: bytes) -> list[Outcome]:
        outcomes = self.ledgers.apply(index, payload)
        record = self._disk.last_record
        self._promises.check_applied(self._node_id, index, payload, outcomes, record, self.ledgers)
        return outcomes


class SimulatedNode:
    """What survives crashes (the disk, the clock's error), and the core while it runs."""

    def __init__(self, node_id: str, world: Surroundings, clock_rate: float) -> None:
        rng = world.scheduler.rng
        self.id = node_id
        self.core: RaftCore | None = None
        self.disk = SimulatedDisk(rng, self._fate)
        self.sync_s_max = _SYNC_S_MAX
        self.writes_until_fate = 0
        self.next_fate = Fate.DONE
        self.crashes = 0
        self.stamps = Stamps(self._wall_clock_ns, rng.randbytes)
        self._world = world
        self._scheduler = world.scheduler
        self._clock_rate = clock_rate
        self._clock_error_s = rng.uniform(-2.0, 2.0)
        # Inside a call, how long its syncs have taken; between calls, until when the node is not looking.
        self._lag_s = 0.0
        self._busy_until = 0.0
        self._inbox: deque[Callable[[], None]] = deque()
        self._waking = False

    @property
    def leads(self) -> bool:
        return self.core is not None and self.core.leads

    def _clock(self) -> float:
        """Monotonic seconds, at this node's own pace."""
        return 100.0 + (self._scheduler.now + self._lag_s) * self._clock_rate

    def _wall_clock_ns(self) -> int:
        return int(_START_US + (self._clock() + self._clock_error_s) * 1e6) * 1000

    def _fate(self, synced: bool) -> Fate:
        if synced:
            self._lag_s += self._scheduler.rng.uniform(0.0001, self.sync_s_max)
        if self.writes_until_fate:
            self.writes_until_fate -= 1
            if not self.writes_until_fate:
                return self.next_fate
        return Fate.DONE

    # Life.

    def start(self) -> None:
        """Opens what the disk holds. Anything but a good start is a broken promise."""
        if self.core is not None:
            return
        promises = self._world.promises
        try:
            machine = _CheckedMachine(self.id, self.disk, promises)
            self.machine = machine.ledgers
            self.core = RaftCore(
                self.id,
                self._world.ids,
                log=DurableLog(self.disk.raft_rows),
                state_machine=machine,
                timing=TIMING,
                clock=self._clock,
                rng=self._scheduler.rng,
            )
        except Exception as error:
            raise Violation(f"{self.id} does not start: {error}") from error
        promises.restarted(self.core, self.disk, self.machine)
        core = self.core
        self.disk.on_raft_rows = lambda rows: promises.check_entries(core, rows)
        self._busy_until = self._scheduler.now
        self._inbox.clear()
        self._waking = False
        self._scheduler.note(
            self.id, "starts", f"term={core.term} log={core.log.first_index}..{core.log.last_index}"
        )
        self._world.came_up(self)
        self._plan_tick(core)

    def crash(self, *, power_lost: bool) -> None:
        """Everything in memory is gone, and after a power cut what was not synced."""
        if self.core is None:
            return
        self.core = None
        self.crashes += 1
        self.writes_until_fate = 0
        self.disk.on_raft_rows = lambda rows: None
        lost = self.disk.recover(power_lost=power_lost)
        self._scheduler.note(self.id, "crashes", f"power_lost={power_lost} lost={lost}B")
        self._world.went_down(self)

    def pause(self, seconds: float) -> None:
        """As SIGSTOP: messages and timers wait."""
        self._busy_until = max(self._busy_until, self._scheduler.now + seconds)

    # What comes in.

    def _plan_tick(self, core: RaftCore) -> None:
        delay_s = TIMING.tick_s * self._scheduler.rng.uniform(0.8, 1.3) / self._clock_rate
        self._scheduler.after(delay_s, lambda: self._put(core, lambda: self._tick(core)))

    def _tick(self, core: RaftCore) -> None:
        self._plan_tick(core)
        # What node/erasing.py asks for: the log gives up what erasures took.
        erasures = [
            row.raft_index for state in self.machine.ledgers.values() for row in state.erasures.values()
        ]
        if erasures:
            core.compact_to(max(erasures))

    def receive(self, sender_id: str, message: Message) -> None:
        core = self.core
        if core is not None:
            self._put(core, lambda: self._take(core, sender_id, message))

    def _take(self, core: RaftCore, sender_id: str, message: Message) -> None:
        self._scheduler.note(self.id, f"<- {sender_id}", message)
        core.receive(sender_id, message)

    def ask(self, request: Callable[[RaftCore], None]) -> None:
        """A client's request, which `request` puts to the core once the node has time for it."""
        core = self.core
        if core is not None:
            self._put(core, lambda: request(core))

    def _put(self, core: RaftCore, act: Callable[[], None]) -> None:
        """Something for `core` to do: at once, or when a sync or a pause is over; never after a crash."""
        if self.core is core:
            self._inbox.append(act)
            if not self._waking:
                self._work(core)

    def _work(self, core: RaftCore) -> None:
        """What came in, then a settlement, as one turn of the real event loop."""
        if self.core is not core:
            return
        self._waking = False
        if not self._inbox:
            return
        wait_s = self._busy_until - self._scheduler.now
        if wait_s > 0:
            self._wake(core, wait_s)
            return
        self._lag_s = 0.0
        try:
            for _ in range(self._scheduler.rng.choice((1, len(self._inbox)))):
                self._inbox.popleft()()
            # Otherwise what came stays staged until the next message or tick.
            if self._scheduler.rng.random() < 0.8:
                self._settle(core)
        except Exception as error:
            self._failed(error)
        self._busy_until = max(self._busy_until, self._scheduler.now + self._lag_s)
        self._lag_s = 0.0
        if self.core is core and self._inbox:
            self._wake(core, max(0.0, self._busy_until - self._scheduler.now))

    def _wake(self, core: RaftCore, after_s: float) -> None:
        self._waking = True
        self._scheduler.after(after_s, lambda: self._work(core))

    def _settle(self, core: RaftCore) -> None:
        role, commit_index = core.role, core.commit_index
        # What is sent in one step is on the wire even if the disk fails in the next.
        for outgoing in core.settle():
            for target, messages in outgoing:
                for message in messages:
                    self._world.send(self.id, target, message, self._lag_s)
        self._world.promises.check(core)
        if core.role is not role:
            self._scheduler.note(self.id, f"is {Role(core.role).name.lower()}", f"term={core.term}")
        if core.commit_index != commit_index:
            self._scheduler.note(self.id, "commits", core.commit_index)

    def _failed(self, error: Exception) -> None:
        """The disk's failures stop a node, as they should; nothing else may."""
        for cause in _causes(error):
            if isinstance(cause, Violation):
                raise cause
            if isinstance(cause, DiskFailed | PowerLost):
                self._scheduler.note(self.id, "stops:", cause)
                # After a failed sync the kernel may have dropped the pages it could not write.
                self.crash(power_lost=True)
                return
        raise Violation(f"{self.id} stopped itself: {type(error).__name__}: {error}") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
