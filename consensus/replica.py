"""One member of a replicated group on the running event loop: RaftCore, its turns, a timer and a wire."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable

from consensus import limits
from consensus.config import MemberStatus, Peer, ReplicaConfig, ReplicaStatus, Role, Timing
from consensus.errors import MalformedMessage, ReplicaStopped
from consensus.log import DurableLog
from consensus.log_store import LogStore
from consensus.membership import Member, Membership, MembershipInvalid, MembershipRefused
from consensus.messages import Message, Notice, size_of
from consensus.raft_core import Outgoing, RaftCore
from consensus.snapshot import Snapshot, SnapshotSink, SnapshotSource
from consensus.state_machine import StateMachine
from consensus.tls import CredentialFiles, MutualTls
from consensus.transport import Counters, TcpTransport
from consensus.turns import Turns

__all__ = [
    "CredentialFiles",
    "LogStore",
    "Member",
    "MemberStatus",
    "Membership",
    "MembershipInvalid",
    "MembershipRefused",
    "MutualTls",
    "Peer",
    "Replica",
    "ReplicaConfig",
    "ReplicaStatus",
    "Role",
    "StateMachine",
    "Timing",
]

logger = logging.getLogger(__name__)


class Replica:
    """A member that proposes, replicates and applies. Use it on one event loop only.

    `on_fatal` is called once, with the reason, when this member has stopped itself: its log or state machine
    failed, or an invariant broke. The process should end. `clock` (monotonic seconds, default: the loop's)
    and `rng` exist for simulation. `tls` secures every connection; without it they are plain TCP.
    With `snapshot_source` the log is kept within bounds for members that lag, and who needs more gets a
    snapshot; `snapshot_sink` is for the snapshots that this member gets.
    `listen_socket` is a bound socket to listen on instead of the address in `config`.
    """

    def __init__(
        self,
        config: ReplicaConfig,
        log_store: LogStore,
        state_machine: StateMachine,
        on_fatal: Callable[[BaseException], None],
        *,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
        snapshot_source: SnapshotSource | None = None,
        snapshot_sink: SnapshotSink | None = None,
        tls: MutualTls | None = None,
        listen_socket: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._log_store = log_store
        self._machine = state_machine
        self._on_fatal = on_fatal
        self._clock = clock
        self._rng = rng or random.Random()
        self._snapshot_source = snapshot_source
        self._snapshot_sink = snapshot_sink
        self._transport = TcpTransport(config, self, rng=self._rng, tls=tls, listen_socket=listen_socket)
        self._leadership_callbacks: list[Callable[[bool], None]] = []
        self._membership_callbacks: list[Callable[[Membership], None]] = []
        self._memberships: tuple[Membership, ...] = ()
        self._notice_callbacks: list[Callable[[str, bytes], None]] = []
        self._core: RaftCore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turns: Turns | None = None
        self._was_leader = False
        self._stopped = False

    async def start(self) -> None:
        """Reads the log and joins the group. Raises LogCorrupt, OSError, and what the log store raises."""
        if self._core is not None:
            raise RuntimeError("a replica starts once")
        self._loop = asyncio.get_running_loop()
        self._core = RaftCore(
            self._config.node_id,
            self._config.bootstrap,
            log=DurableLog(self._log_store),
            state_machine=self._machine,
            timing=self._config.timing,
            clock=self._clock or self._loop.time,
            rng=self._rng,
            catch_up=self._config.catch_up,
            read_lease=self._config.read_lease,
            snapshot_source=self._snapshot_source,
            snapshot_sink=self._snapshot_sink,
        )
        self._turns = Turns(
            self._core,
            self._log_store,
            send=self._send,
            on_settled=self._settled,
            on_failed=self._die,
        )
        self._memberships = self._core.known_memberships
        await self._transport.start(self._core.incarnation, self._config.addresses(*self._memberships))
        self._on_timer()

    async def stop(self) -> None:
        """Leaves the group. Proposals that wait fail with OutcomeUnknown. Safe to call twice."""
        self._halt()
        self._tell_leadership()
        await self._transport.stop()
        if self._turns is not None:
            await self._turns.close()

    # What the node asks.

    @property
    def is_leader(self) -> bool:
        """Whether this member leads, as far as it knows. Another one may already have been elected."""
        return not self._stopped and self._core is not None and self._core.leads

    @property
    def leader_id(self) -> str | None:
        return None if self._stopped or self._core is None else self._core.leader_id

    @property
    def counters(self) -> Counters:
        return self._transport.counters

    def on_leadership(self, callback: Callable[[bool], None]) -> None:
        """`callback(True)` follows each time this member becomes leader, `callback(False)` when it ends."""
        self._leadership_callbacks.append(callback)

    def notify(self, peer_id: str | None, body: bytes) -> int:
        """Sends `body` to another member, or to all of them; returns how many it was written to.

        No part of Raft: it may be lost, and never waits. Raises ValueError when `body` is too long.
        """
        if len(body) > limits.NOTICE_SIZE_BYTES_MAX:
            raise ValueError(f"a notice is at most {limits.NOTICE_SIZE_BYTES_MAX} bytes, not {len(body)}")
        return 0 if self._stopped else self._transport.send_notice(peer_id, Notice(body))

    def on_notice(self, callback: Callable[[str, bytes], None]) -> None:
        """`callback(peer_id, body)` is called for each notice that comes. It must not raise, and be quick:
        it runs where Raft's messages are taken."""
        self._notice_callbacks.append(callback)

    def propose(self, payload: bytes) -> asyncio.Future[object]:
        """Replicates `payload`; the future gets what the state machine returned when it was applied here.

        Raises NotLeader, ProposalTooLarge, TooManyProposals, ReplicaStopped. The future fails with
        OutcomeUnknown when leadership is lost first: the payload may still be committed later, or never.
        """
        core, loop = self._running()
        future: asyncio.Future[object] = loop.create_future()
        core.propose(payload, future)
        self._schedule()
        return future

    async def read_barrier(self) -> None:
        """Returns when a read of the local state machine is linearizable (ReadIndex, Raft thesis 6.4).

        A quorum has then answered a round begun after the call, and everything committed by then is
        applied. Makes no use of clocks. Raises NotLeader, ReadFailed, ReplicaStopped.
        """
        core, loop = self._running()
        future: asyncio.Future[object] = loop.create_future()
        core.read(future)
        self._schedule()
        await future

    def compact_to(self, index: int) -> None:
        """Entries up to `index` are to leave this member's log, however few they are, as soon as it has
        applied a payload behind them and those that the leader hears hold it. `status().first_index` is then
        above `index`.

        Until a restart; asking again is harmless. Raises ReplicaStopped.
        """
        core, _ = self._running()
        core.compact_to(index)
        self._schedule()

    async def transfer_leadership(self, target_id: str | None = None) -> str:
        """Gives the leadership to `target_id`, or to the follower that has most of the log.

        Returns the id of the leader that follows. Takes at most an election timeout, in which `propose`
        raises NotLeader. Raises NotLeader, TransferFailed, ReplicaStopped.
        """
        core, loop = self._running()
        future: asyncio.Future[object] = loop.create_future()
        core.transfer(target_id, future)
        self._schedule()
        return str(await future)

    def needs(self, snapshot: Snapshot) -> bool:
        """Whether this member, stopped or not, needs the snapshot that its sink has. To be asked again once
        it is stopped: until then its log may have gone on by itself."""
        return self._core is not None and self._core.needs(snapshot)

    # Membership, one change at a time (Raft thesis chapter 4).

    @property
    def membership(self) -> Membership:
        """The latest one, committed or not. Raises ReplicaStopped before `start`."""
        return self._started().membership

    @property
    def membership_committed(self) -> bool:
        """Whether `membership` is known to be committed."""
        return self._started().membership_committed

    def on_membership(self, callback: Callable[[Membership], None]) -> None:
        """`callback` gets the latest membership each time it becomes another one, or turns out committed."""
        self._membership_callbacks.append(callback)

    async def add_learner(self, member: Member) -> None:
        """Adds a server, which gets the log and has no vote; returns when that is committed.

        `voter` and `returning` mean nothing here. Raises NotLeader, MembershipRefused, OutcomeUnknown,
        TooManyProposals, ReplicaStopped, and MembershipInvalid when something in `member` is too long.
        """
        await self._changed(lambda core, future: core.add_learner(member, future))

    async def promote(self, member_id: str) -> None:
        """Gives a learner a vote; returns when that is committed. Raises as `add_learner` does."""
        await self._changed(lambda core, future: core.promote(member_id, future))

    async def remove(self, member_id: str) -> None:
        """Removes a member, which may be this one; returns when that is committed. Its id is retired.

        Raises as `add_learner` does. A leader that removed itself hands the leadership over and steps down.
        """
        await self._changed(lambda core, future: core.remove(member_id, future))

    async def _changed(self, change: Callable[[RaftCore, asyncio.Future[object]], None]) -> None:
        core, loop = self._running()
        future: asyncio.Future[object] = loop.create_future()
        change(core, future)
        self._schedule()
        await future

    def status(self) -> ReplicaStatus:
        """Raises ReplicaStopped before `start`."""
        core = self._started()
        members = tuple(
            MemberStatus(
                id=member.id,
                zone=member.zone,
                match_index=core.match_index(member.id),
                connected=member.id == self._config.node_id or core.is_connected(member.id),
                voter=member.voter,
                caught_up=core.caught_up(member.id),
                last_heard_s=core.last_heard_s(member.id),
                snapshotting=core.snapshotting(member.id),
            )
            for member in core.membership.members
        )
        return ReplicaStatus(
            node_id=self._config.node_id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            first_index=core.log.first_index,
            last_index=core.log.last_index,
            members=members,
            membership_index=core.membership_index,
            change_pending=not core.membership_committed,
        )

    # What the transport tells.

    def message_received(self, peer_id: str, message: Message | Notice) -> None:
        if isinstance(message, Notice):
            if not self._stopped:
                for callback in self._notice_callbacks:
                    callback(peer_id, message.body)
        elif not self._between(lambda core: self._take(core, peer_id, message), size_of(message)):
            self._transport.counters.messages_dropped += 1

    def _take(self, core: RaftCore, peer_id: str, message: Message) -> None:
        try:
            core.receive(peer_id, message)
        except MalformedMessage as error:
            self._transport.cut(peer_id, error)
        except BaseException as error:
            self._die(error)
        else:
            self._schedule()

    def peer_greeted(self, peer_id: str, incarnation: bytes) -> None:
        self._between(lambda core: core.peer_greeted(peer_id, incarnation))

    def link_up(self, peer_id: str) -> None:
        def connected(core: RaftCore) -> None:
            core.peer_connected(peer_id)
            self._schedule()

        self._between(connected)

    def link_down(self, peer_id: str) -> None:
        self._between(lambda core: core.peer_disconnected(peer_id))

    def peer_lost(self, peer_id: str) -> None:
        self._between(lambda core: core.peer_lost(peer_id))

    def _between(self, act: Callable[[RaftCore], None], size_bytes: int = 0) -> bool:
        """Has the core hear of it as soon as its disk is not at work; False when it will never."""
        core, turns = self._core, self._turns
        if core is None or turns is None or self._stopped:
            return True
        return turns.between(lambda: act(core), size_bytes)

    # The one place where things move.

    def _started(self) -> RaftCore:
        if self._core is None:
            raise ReplicaStopped("this replica has not started")
        return self._core

    def _running(self) -> tuple[RaftCore, asyncio.AbstractEventLoop]:
        if self._core is None or self._loop is None or self._stopped:
            raise ReplicaStopped("this replica does not run")
        return self._core, self._loop

    def _schedule(self) -> None:
        if self._turns is not None:
            self._turns.schedule()

    def _on_timer(self) -> None:
        if not self._stopped and self._loop is not None:
            self._timer = self._loop.call_later(self._config.timing.tick_s, self._on_timer)
            self._schedule()

    def _send(self, outgoing: Outgoing) -> None:
        for peer_id, messages in outgoing:
            self._transport.send(peer_id, messages)

    def _settled(self) -> None:
        if self._core is not None and not self._stopped:
            self._tell_membership(self._core)
            self._tell_leadership()

    def _tell_membership(self, core: RaftCore) -> None:
        """After what was sent: the last that a removed member hears is that it was."""
        known = () if core.departed else core.known_memberships
        if known != self._memberships:
            self._memberships = known
            self._transport.reach(self._config.addresses(*known) if known else {})
            for callback in self._membership_callbacks:
                callback(core.membership)

    def _tell_leadership(self) -> None:
        leads = self.is_leader
        if leads != self._was_leader:
            self._was_leader = leads
            for callback in self._leadership_callbacks:
                callback(leads)

    def _halt(self) -> None:
        """Nothing is sent, applied or promised from here on."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._turns is not None:
            self._turns.stop()
        if self._core is not None:
            self._core.stop()
        self._transport.abort()

    def _die(self, error: BaseException) -> None:
        """Fail-stop: what this member believes can no longer be trusted to be true or on disk."""
        if self._stopped:
            return
        logger.critical("replica %s stops: %s", self._config.node_id, error, exc_info=error)
        self._halt()
        self._on_fatal(error)
        self._tell_leadership()
        if not isinstance(error, Exception):
            raise error
