"""One member of a replicated group on the running event loop: RaftCore, a timer and a wire.

Everything that happens in one turn of the loop (messages from any number of sockets, any number of
proposals) is settled together in the next: one synced write, one batch a follower.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable

from consensus.config import MemberStatus, Peer, ReplicaConfig, ReplicaStatus, Role, Timing
from consensus.errors import MalformedMessage, ReplicaStopped
from consensus.log import DurableLog, LogStore
from consensus.messages import Message
from consensus.raft_core import RaftCore
from consensus.state_machine import StateMachine
from consensus.tls import CredentialFiles, MutualTls
from consensus.transport import Counters, TcpTransport

__all__ = [
    "CredentialFiles",
    "LogStore",
    "MemberStatus",
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
        tls: MutualTls | None = None,
        listen_socket: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._log_store = log_store
        self._machine = state_machine
        self._on_fatal = on_fatal
        self._clock = clock
        self._rng = rng or random.Random()
        self._transport = TcpTransport(config, self, rng=self._rng, tls=tls, listen_socket=listen_socket)
        self._leadership_callbacks: list[Callable[[bool], None]] = []
        self._core: RaftCore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._settle_scheduled = False
        self._was_leader = False
        self._stopped = False

    async def start(self) -> None:
        """Reads the log and joins the group. Raises LogCorrupt, OSError, and what the log store raises."""
        if self._core is not None:
            raise RuntimeError("a replica starts once")
        self._loop = asyncio.get_running_loop()
        self._core = RaftCore(
            self._config.node_id,
            [peer.id for peer in self._config.peers],
            log=DurableLog(self._log_store),
            state_machine=self._machine,
            timing=self._config.timing,
            clock=self._clock or self._loop.time,
            rng=self._rng,
        )
        await self._transport.start()
        self._on_timer()

    async def stop(self) -> None:
        """Leaves the group. Proposals that wait fail with OutcomeUnknown. Safe to call twice."""
        self._halt()
        self._tell_leadership()
        await self._transport.stop()

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
        """Entries up to `index` are to leave this member's log, however few they are, as soon as every member
        holds, and this one has applied, a payload behind them: `status().first_index` is then above `index`.

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

    def status(self) -> ReplicaStatus:
        """Raises ReplicaStopped before `start`."""
        core = self._core
        if core is None:
            raise ReplicaStopped("this replica has not started")
        members = tuple(
            MemberStatus(
                id=peer.id,
                zone=peer.zone,
                match_index=core.match_index(peer.id),
                connected=peer.id == self._config.node_id or core.is_connected(peer.id),
            )
            for peer in self._config.peers
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
        )

    # What the transport tells.

    def message_received(self, peer_id: str, message: Message) -> None:
        """Raises MalformedMessage."""
        if self._core is None or self._stopped:
            return
        try:
            self._core.receive(peer_id, message)
        except MalformedMessage:
            raise
        except BaseException as error:
            self._die(error)
        else:
            self._schedule()

    def link_up(self, peer_id: str) -> None:
        if self._core is not None and not self._stopped:
            self._core.peer_connected(peer_id)
            self._schedule()

    def link_down(self, peer_id: str) -> None:
        if self._core is not None and not self._stopped:
            self._core.peer_disconnected(peer_id)

    def peer_lost(self, peer_id: str) -> None:
        if self._core is not None and not self._stopped:
            self._core.peer_lost(peer_id)

    # The one place where things move.

    def _running(self) -> tuple[RaftCore, asyncio.AbstractEventLoop]:
        if self._core is None or self._loop is None or self._stopped:
            raise ReplicaStopped("this replica does not run")
        return self._core, self._loop

    def _schedule(self) -> None:
        """Settles in the next turn of the loop, once for everything that this turn brings."""
        if not self._settle_scheduled and self._loop is not None:
            self._settle_scheduled = True
            self._loop.call_soon(self._settle)

    def _on_timer(self) -> None:
        if not self._stopped and self._loop is not None:
            self._timer = self._loop.call_later(self._config.timing.tick_s, self._on_timer)
            self._schedule()

    def _settle(self) -> None:
        self._settle_scheduled = False
        core = self._core
        if core is None or self._stopped:
            return
        try:
            for outgoing in core.settle():
                for peer_id, messages in outgoing:
                    self._transport.send(peer_id, messages)
        except BaseException as error:
            self._die(error)
            return
        if core.applied_index < core.commit_index:
            self._schedule()
        self._tell_leadership()

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
