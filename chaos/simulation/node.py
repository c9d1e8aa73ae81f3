"""One node: the real consensus core, log and ledger machine on a simulated disk, clock and network."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Protocol

from chaos.simulation.disk import DiskFailed, Fate, OrderedRows, PowerLost, SimulatedDisk
from chaos.simulation.faults import Weather
from chaos.simulation.promises import Promises
from chaos.simulation.scheduler import Scheduler
from chaos.simulation.snapshots import SimulatedSink, SimulatedSource
from chaos.simulation.violation import Violation
from consensus.config import ReadLease, Role
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Message
from consensus.raft_core import RaftCore
from consensus.snapshot import Snapshot
from node.stamps import Stamps
from storage.commands import Seal
from storage.machine import LedgerMachine
from storage.outcomes import Outcome

_START_US = 1_790_000_000_000_000
_SYNC_S_MAX = 0.003
_TURN_S = 0.0001


class Surroundings(Protocol):
    """What a node needs of the world around it."""

    scheduler: Scheduler
    promises: Promises
    weather: Weather
    counts: Counter[str]
    healed: bool

    def send(self, source: SimulatedNode, target: str, message: Message, after_s: float) -> None: ...
    def went_down(self, node: SimulatedNode) -> None: ...
    def came_up(self, node: SimulatedNode) -> None: ...
    def elected(self, node: SimulatedNode) -> None: ...


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
        if self.ledgers.disputes:
            raise Violation(f"{self._node_id} has another journal: {self.ledgers.disputes[0]}")
        # Each node at other times: whether a seal was worked on ahead may change nothing.
        if (index + ord(self._node_id[-1])) % 3 == 0:
            self.ledgers.work_ahead(list(self.ledgers.ledgers), 1)
        record = self._disk.last_record
        self._promises.check_applied(self._node_id, index, payload, outcomes, record, self.ledgers)
        return outcomes


class SimulatedNode:
    """What survives crashes (the disk, the clock's error), and the core while it runs."""

    def __init__(self, node_id: str, world: Surroundings, clock_rate: float, bootstrap: Membership) -> None:
        rng = world.scheduler.rng
        self.id = node_id
        self.bootstrap = bootstrap
        # Incarnations of its disks so far; the last one is in use.
        self.incarnations: list[bytes] = []
        self.life = 0
        self.core: RaftCore | None = None
        self.disk = SimulatedDisk(rng, self._fate)
        self.machine = LedgerMachine(self.disk)
        self.sync_s_max = _SYNC_S_MAX
        self.writes_until_fate = 0
        self.next_fate = Fate.DONE
        self.fate_after_deletion = False
        self.crashes = 0
        self.stamps = Stamps(self._wall_clock_ns, rng.randbytes)
        self._world = world
        self._scheduler = world.scheduler
        self._timing = world.weather.timing
        self._sink = SimulatedSink(world.scheduler, self._faults, self._received)
        self._lives_heard: dict[str, int] = {}
        self._clock_rate = clock_rate
        self._clock_error_s = rng.uniform(-2.0, 2.0)
        # Inside a call, how long its syncs have taken; between calls, until when the node is not looking.
        self._lag_s = 0.0
        self._busy_until = 0.0
        # What came, and whether a client asked for it.
        self._inbox: deque[tuple[Callable[[], None], bool]] = deque()
        self._waking = False

    @property
    def incarnation(self) -> bytes:
        """Of the disk in use; empty while it has none."""
        return self.incarnations[self.life] if self.life < len(self.incarnations) else b""

    @property
    def leads(self) -> bool:
        return self.core is not None and self.core.leads

    def _clock(self) -> float:
        """Monotonic seconds, at this node's own pace."""
        return 100.0 + (self._scheduler.now + self._lag_s) * self._clock_rate

    def _wall_clock_ns(self) -> int:
        return int(_START_US + (self._clock() + self._clock_error_s) * 1e6) * 1000

    def _faults(self) -> bool:
        return not self._world.healed

    def _fate(self, synced: bool, deletes: bool) -> Fate:
        if synced:
            self._lag_s += self._scheduler.rng.uniform(0.0001, self.sync_s_max)
        self.fate_after_deletion &= not deletes
        if self.writes_until_fate and not self.fate_after_deletion:
            self.writes_until_fate -= 1
            if not self.writes_until_fate:
                return self.next_fate
        return Fate.DONE

    def seal(self, ledger: str) -> list[Seal]:
        """The seal that this node would propose as a leader; none for a ledger that it does not have."""
        state = self.machine.ledgers.get(ledger)
        if state is None:
            return []
        at = self.stamps.now_us()
        size, root = (0, bytes(32)) if state.sealed is None else (state.sealed.size, state.sealed.root)
        tx = self.stamps.transaction_id(at)
        return [Seal(ledger, state.row.id, tx, at, "simulation", size, root)]

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
                self.bootstrap,
                log=DurableLog(self.disk.raft_rows),
                state_machine=machine,
                timing=self._timing,
                clock=self._clock,
                rng=self._scheduler.rng,
                catch_up=self._world.weather.catch_up,
                read_lease=self._lease(),
                snapshot_source=SimulatedSource(self.disk, self._scheduler, self._faults),
                snapshot_sink=self._sink,
            )
        except (DiskFailed, PowerLost):
            self._go_down(power_lost=True)
            return
        except Exception as error:
            raise Violation(f"{self.id} does not start: {error}") from error
        if len(self.incarnations) == self.life:
            self.incarnations.append(self.core.incarnation)
        if self.core.incarnation != self.incarnations[self.life]:
            raise Violation(f"{self.id} is another server after a restart")
        self._lives_heard = {}
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

    def _lease(self) -> ReadLease | None:
        """What the settings say at this start: the same everywhere and always, or as it comes."""
        weather = self._world.weather
        return weather.read_lease if weather.leases_alike or self._scheduler.rng.random() < 0.7 else None

    def crash(self, *, power_lost: bool) -> None:
        """Everything in memory is gone, and after a power cut what was not synced."""
        if self.core is not None:
            self._go_down(power_lost=power_lost)

    def _go_down(self, *, power_lost: bool) -> None:
        self.core = None
        self.crashes += 1
        self.writes_until_fate = 0
        self._sink.crashed(power_lost=power_lost)
        self.disk.on_raft_rows = lambda rows: None
        lost = self.disk.recover(power_lost=power_lost)
        self._scheduler.note(self.id, "crashes", f"power_lost={power_lost} lost={lost}B")
        self._world.went_down(self)

    def lose_disk(self) -> None:
        """It comes back with an empty one: as another server, with the id and the address of this one."""
        self.crash(power_lost=True)
        self.life += 1
        self.disk.replace((OrderedRows(), OrderedRows()))
        self._sink = SimulatedSink(self._scheduler, self._faults, self._received)
        self._world.promises.lost_disk(self.id)
        self._scheduler.note(self.id, "has lost its disk")

    def _received(self, snapshot: Snapshot) -> None:
        """As node/app.py does it: the node stops, its state is replaced in one step, and it starts again."""
        if self.core is None:
            return
        if not self.core.needs(snapshot):
            self._sink.forget()
            return
        self.core.stop()
        if (
            self._world.healed or self._scheduler.rng.random() < 0.8
        ):  # Otherwise it goes down right before the rename.
            try:
                rows = self._sink.completed(self.disk, snapshot)
            except Exception as error:
                raise Violation(f"{self.id} cannot install a snapshot: {error}") from error
            self._world.promises.check_installed(self.core, snapshot)
            self.disk.replace(rows)
            self._sink.forget()
            self._world.counts["installed"] += 1
            self._scheduler.note(self.id, "installs a snapshot of entry", snapshot.index)
        self._go_down(power_lost=self._scheduler.rng.random() < 0.5)

    def pause(self, seconds: float) -> None:
        """As SIGSTOP: messages and timers wait."""
        self._busy_until = max(self._busy_until, self._scheduler.now + seconds)

    # What comes in.

    def _plan_tick(self, core: RaftCore) -> None:
        delay_s = self._timing.tick_s * self._scheduler.rng.uniform(0.8, 1.3) / self._clock_rate
        self._scheduler.after(delay_s, lambda: self._put(core, lambda: self._tick(core)))

    def _tick(self, core: RaftCore) -> None:
        self._plan_tick(core)
        # What node/erasing.py asks for: the log gives up what erasures took.
        erasures = [
            row.raft_index for state in self.machine.ledgers.values() for row in state.erasures.values()
        ]
        if erasures:
            core.compact_to(max(erasures))

    def receive(self, sender: SimulatedNode, life: int, message: Message) -> None:
        core = self.core
        if core is not None:
            self._put(core, lambda: self._take(core, sender, life, message))

    def _take(self, core: RaftCore, sender: SimulatedNode, life: int, message: Message) -> None:
        if self._heard(core, sender, life):
            self._scheduler.note(self.id, f"<- {sender.id}", message)
            core.receive(sender.id, message)

    def greet(self, sender: SimulatedNode) -> None:
        """`sender` opens a connection and says which server it is."""
        core, life = self.core, sender.life
        if core is None or sender.core is None:
            return

        def hear() -> None:
            self._heard(core, sender, life)

        self._put(core, hear)

    def _heard(self, core: RaftCore, sender: SimulatedNode, life: int) -> bool:
        """Whether what `sender` said in that life is still heard: a connection replaces those before."""
        known = self._lives_heard.get(sender.id, -1)
        if life > known:
            self._lives_heard[sender.id] = life
            core.peer_greeted(sender.id, sender.incarnations[life])
        return life >= known

    def ask(self, request: Callable[[RaftCore], None]) -> None:
        """A client's request, which `request` puts to the core once the node has time for it."""
        core = self.core
        if core is not None:
            self._put(core, lambda: request(core), asked=True)

    def _put(self, core: RaftCore, act: Callable[[], None], *, asked: bool = False) -> None:
        """Something for `core` to do: at once, or when a sync or a pause is over; never after a crash."""
        if self.core is core:
            self._inbox.append((act, asked))
            if not self._waking:
                self._work(core)

    def _work(self, core: RaftCore) -> None:
        """What came in, then a settlement, as one turn of the real event loop."""
        if self.core is not core:
            return
        self._waking = False
        if not self._has_work(core):
            return
        wait_s = self._busy_until - self._scheduler.now
        if wait_s > 0:
            self._wake(core, wait_s)
            return
        self._lag_s = 0.0
        try:
            waiting = len(self._inbox)
            for _ in range(
                waiting if waiting > 1 and self._scheduler.rng.random() < 0.5 else min(waiting, 1)
            ):
                act, _ = self._inbox.popleft()
                act()
            # Otherwise what came stays staged until the next message or tick.
            if self._scheduler.rng.random() < 0.8:
                self._settle(core)
        except Exception as error:
            self._failed(error)
        self._busy_until = max(self._busy_until, self._scheduler.now + self._lag_s)
        self._lag_s = 0.0
        if self.core is core and self._has_work(core):
            turn_s = 0.0 if self._inbox else _TURN_S
            self._wake(core, max(turn_s, self._busy_until - self._scheduler.now))

    def _has_work(self, core: RaftCore) -> bool:
        """While the cluster recovers, as the real driver sees it: what is committed is applied, message or
        not. Before, a node may lie still with it, which finds more."""
        return bool(self._inbox) or (self._world.healed and core.unsettled)

    def _wake(self, core: RaftCore, after_s: float) -> None:
        self._waking = True
        self._scheduler.after(after_s, lambda: self._work(core))

    def _settle(self, core: RaftCore) -> None:
        role, commit_index = core.role, core.commit_index
        # What is sent in one step is on the wire even if the disk fails in the next.
        for outgoing in core.settle():
            if outgoing:
                self._world.promises.check(core)
            for target, messages in outgoing:
                for message in messages:
                    self._world.send(self, target, message, self._lag_s)
            if core.written_size_bytes and self._scheduler.rng.random() < 0.3:
                self._sync_apart(core)
        self._world.promises.check(core)
        if core.role is not role:
            self._scheduler.note(self.id, f"is {Role(core.role).name.lower()}", f"term={core.term}")
            if core.leads:
                self._world.elected(self)
        if core.commit_index != commit_index:
            self._scheduler.note(self.id, "commits", core.commit_index)

    def _sync_apart(self, core: RaftCore) -> None:
        """As consensus/turns.py does it with a thread: while the disk works, clients are served."""
        try:
            asked = [act for act, by_client in self._inbox if by_client]
            self._inbox = deque(each for each in self._inbox if not each[1])
            for act in asked:
                act()
            self.disk.sync()
        except Exception:
            core.stop()
            raise
        core.synced()

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
