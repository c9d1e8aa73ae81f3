"""Group commit: many commands, one Raft entry.

A command that comes while nothing is in flight is proposed within the same turn of the event loop, unless the
last entry carried many: then the clients that it answered are given a moment to write again, because an entry
costs three nodes as much as a dozen small writes in it. While an entry is on its way, commands gather, and go
ahead of its commit only once there are many of them, or many bytes. So groups grow with the load, a lone
write waits for nobody, and a bulk load keeps every disk busy.

There are two queues. In each, order is kept: commands are proposed, and so applied, as they were submitted.
What streams submit waits in one of its own, because a load has whole chunks of lines wait: other clients'
commands go before them, and no entry goes without a stream's next one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from consensus.errors import ConsensusError, NotLeader, TooManyProposals
from node import limits
from storage.commands import Command, encode_command, join_group
from storage.outcomes import Outcome


class CommitError(Exception):
    """Base of what a submitted command can fail with, besides NotLeader."""


class Overloaded(CommitError):
    """Too much is waiting. Nothing was written."""


class ShuttingDown(CommitError):
    """The node takes no more commands. Nothing was written."""


class CommandTooLarge(CommitError):
    """One command is larger than any entry may be. Nothing was written."""


class CommitUnknown(CommitError):
    """The command was proposed, and whether it commits is not known. `tx` is its id, if it has one."""

    def __init__(self, tx: bytes | None, why: str) -> None:
        super().__init__(why)
        self.tx = tx


class Proposer(Protocol):
    """What the committer needs of a replica (consensus.replica.Replica)."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader_id(self) -> str | None: ...

    def propose(self, payload: bytes) -> asyncio.Future[object]: ...


class _Pending:
    """A command on its way."""

    __slots__ = ("deadline_s", "encoded", "future", "tx")

    def __init__(
        self, encoded: bytes, tx: bytes | None, future: asyncio.Future[Any], deadline_s: float
    ) -> None:
        self.encoded = encoded
        self.tx = tx
        self.future = future
        self.deadline_s = deadline_s


class Committer:
    """Turns commands into outcomes, on the leader.

    `on_group(commands, size_bytes)` is told of every entry proposed. Belongs to one event loop.
    """

    def __init__(
        self,
        proposer: Proposer,
        *,
        entries_in_flight_max: int = limits.ENTRIES_IN_FLIGHT_MAX,
        pending_commands_max: int = limits.PENDING_COMMANDS_MAX,
        pending_size_bytes_max: int = limits.PENDING_SIZE_BYTES_MAX,
        timeout_s: float = limits.COMMIT_TIMEOUT_S,
        on_group: Callable[[int, int], None] = lambda commands, size_bytes: None,
    ) -> None:
        self._proposer = proposer
        self._entries_in_flight_max = entries_in_flight_max
        self._pending_commands_max = pending_commands_max
        self._pending_size_bytes_max = pending_size_bytes_max
        self._timeout_s = timeout_s
        self._on_group = on_group
        self._loop = asyncio.get_running_loop()
        self._single: deque[_Pending] = deque()
        self._streamed: deque[_Pending] = deque()
        self._last_single_s = -math.inf
        self._pending_size_bytes = 0
        self._in_flight: dict[asyncio.Future[object], list[_Pending]] = {}
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._flush_scheduled = False
        self._gathering: asyncio.TimerHandle | None = None
        self._expected = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pending_commands(self) -> int:
        return len(self._single) + len(self._streamed)

    @property
    def entries_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def only_streams(self) -> bool:
        """Whether all that came lately came in streams."""
        return self._loop.time() - self._last_single_s > limits.ONLY_STREAMS_AFTER_S

    def submit(self, command: Command) -> asyncio.Future[Outcome]:
        """Queue a command; the future gives its Outcome.

        Raises NotLeader, Overloaded, CommandTooLarge or ShuttingDown at once; the future fails with
        NotLeader or Overloaded (nothing written) or CommitUnknown.
        """
        self._last_single_s = self._loop.time()
        return self._submit(command, self._single)

    def _submit(self, command: Command, queue: deque[_Pending]) -> asyncio.Future[Outcome]:
        self._check_open()
        if self.pending_commands >= self._pending_commands_max:
            raise Overloaded(f"{self.pending_commands} commands wait for their commit")
        encoded = encode_command(command)
        if len(encoded) > limits.COMMAND_SIZE_BYTES_MAX:
            raise CommandTooLarge(f"the command has {len(encoded)} bytes")
        if self._pending_size_bytes + len(encoded) > self._pending_size_bytes_max:
            raise Overloaded(f"{self._pending_size_bytes} bytes wait for their commit")
        return self._enqueue(encoded, getattr(command, "tx", None), queue)

    def submit_ahead(self, command: Command) -> asyncio.Future[Outcome]:
        """As `submit`, ahead of everything pending and even when the queue is full: for the few commands
        that must not wait behind a bulk load. The caller bounds how many there are."""
        self._check_open()
        return self._enqueue(encode_command(command), getattr(command, "tx", None), self._single, ahead=True)

    async def submit_patiently(self, command: Command) -> asyncio.Future[Outcome]:
        """As `submit`, for what comes in streams: waits for room instead of raising Overloaded, and behind
        what others submit.

        Streams take only half of the room, so that they never crowd out single writes.
        """
        while self._is_half_full():
            room: asyncio.Future[None] = self._loop.create_future()
            self._waiting_for_room.append(room)
            await room
        return self._submit(command, self._streamed)

    async def settle(self) -> None:
        """Propose nothing, behind everything submitted or in the log by now.

        Afterwards every earlier proposal of any leader has been applied or never will be. Raises as `submit`
        and its future do.
        """
        self._check_open()
        queues = (self._single, self._streamed) if self._streamed else (self._single,)
        await asyncio.gather(*(self._enqueue(b"", None, queue) for queue in queues))

    async def close(self, timeout_s: float) -> None:
        """Take no more commands; wait for those that were taken, then give up on the rest."""
        self._closed = True
        waiting = [item.future for item in (*self._single, *self._streamed)]
        waiting += [item.future for group in self._in_flight.values() for item in group]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        self._fail(self._take_all(), ShuttingDown("the node is shutting down"))
        for group in self._in_flight.values():
            for item in group:
                self._fail([item], CommitUnknown(item.tx, "the node stopped before the commit was confirmed"))
        self._let_in()
        if self._sweep is not None:
            self._sweep.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown("the node is shutting down")
        if not self._proposer.is_leader:
            raise NotLeader(self._proposer.leader_id)

    def _is_half_full(self) -> bool:
        return not self._closed and (
            self.pending_commands * 2 >= self._pending_commands_max
            or self._pending_size_bytes * 2 >= self._pending_size_bytes_max
        )

    def _may_propose(self) -> bool:
        """Whether what is pending may go now, or must wait for more to share an entry with it."""
        if not self._in_flight:
            return True
        room = len(self._in_flight) < self._entries_in_flight_max
        return room and self._are_many(limits.GROUP_AHEAD_COMMANDS_MIN)

    def _are_many(self, commands: int) -> bool:
        return (
            self.pending_commands >= commands or self._pending_size_bytes >= limits.GROUP_AHEAD_SIZE_BYTES_MIN
        )

    def _enqueue(
        self, encoded: bytes, tx: bytes | None, queue: deque[_Pending], *, ahead: bool = False
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        item = _Pending(encoded, tx, future, self._loop.time() + self._timeout_s)
        if ahead:
            queue.appendleft(item)
        else:
            queue.append(item)
        self._pending_size_bytes += len(encoded)
        if not self._flush_scheduled and self._may_propose() and (ahead or not self._expects_more()):
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        if self._sweep is None:
            self._sweep = self._loop.call_later(limits.COMMIT_SWEEP_S, self._expire)
        return future

    def _expects_more(self) -> bool:
        """Whether what is pending is to wait: until as many have come as are expected, or for a moment."""
        if self._in_flight or self._are_many(self._expected):
            return False
        if self._gathering is None:
            self._gathering = self._loop.call_later(limits.GATHER_S, self._flush)
        return True

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        while self.pending_commands and self._may_propose():
            group, size_bytes = self._gather()
            encoded = [item.encoded for item in group if item.encoded]
            try:
                proposed = self._proposer.propose(join_group(encoded))
            except TooManyProposals as error:
                self._fail(group, Overloaded(str(error)))
                continue
            except ConsensusError as error:
                # Nothing of this group went out, and the rest of the queue would fare the same.
                self._fail(group + self._take_all(), error)
                break
            self._in_flight[proposed] = group
            proposed.add_done_callback(self._applied)
            self._on_group(len(encoded), size_bytes)
        self._let_in()

    def _gather(self) -> tuple[list[_Pending], int]:
        """Commands for one entry: as many as fit, and of each queue that has any at least one, unless two are
        too large for one entry."""
        group: list[_Pending] = []
        size_bytes = 0
        for queue in (self._single, self._streamed):
            taken = 0
            while queue and (taken == 0 or len(group) < limits.GROUP_COMMANDS_MAX):
                size_bytes_max = limits.GROUP_SIZE_BYTES_MAX if taken else limits.ENTRY_SIZE_BYTES_MAX
                following = len(queue[0].encoded)
                if group and size_bytes + following > size_bytes_max:
                    break
                size_bytes += following
                group.append(queue.popleft())
                taken += 1
        self._pending_size_bytes -= size_bytes
        return group, size_bytes

    def _take_all(self) -> list[_Pending]:
        """Everything pending, which is so no longer."""
        taken = [*self._single, *self._streamed]
        self._single.clear()
        self._streamed.clear()
        self._pending_size_bytes = 0
        return taken

    def _applied(self, proposed: asyncio.Future[object]) -> None:
        group = self._in_flight.pop(proposed)
        many = len(group) >= limits.GATHERED_COMMANDS_MIN
        self._expected = int(len(group) * limits.GATHERED_SHARE) if many else 0
        error = asyncio.CancelledError() if proposed.cancelled() else proposed.exception()
        if error is None:
            self._resolve(group, cast("Sequence[Outcome]", proposed.result()))
        elif isinstance(error, NotLeader):
            self._fail(group, error)
        else:
            for item in group:
                self._fail([item], CommitUnknown(item.tx, str(error) or type(error).__name__))
        if self.pending_commands and not self._expects_more():
            self._flush()

    def _resolve(self, group: list[_Pending], outcomes: Sequence[Outcome]) -> None:
        answers = iter(outcomes)
        for item in group:
            # What `settle` proposed carries no command, so no outcome is its own.
            outcome = next(answers) if item.encoded else None
            if not item.future.done():
                item.future.set_result(outcome)

    def _fail(self, group: Sequence[_Pending], error: Exception) -> None:
        for item in group:
            if not item.future.done():
                item.future.set_exception(error)

    def _let_in(self) -> None:
        if self._is_half_full():
            return
        while self._waiting_for_room:
            room = self._waiting_for_room.popleft()
            if not room.done():
                room.set_result(None)

    def _expire(self) -> None:
        """Answer what has waited too long. One sweep for all costs less than a timer a command."""
        now_s = self._loop.time()
        for queue in (self._single, self._streamed):
            while queue and queue[0].deadline_s <= now_s:
                item = queue.popleft()
                self._pending_size_bytes -= len(item.encoded)
                self._fail(
                    [item], Overloaded("the command waited too long to be proposed; nothing was written")
                )
        for group in self._in_flight.values():
            for item in group:
                if item.deadline_s <= now_s:
                    self._fail([item], CommitUnknown(item.tx, f"not committed within {self._timeout_s:g} s"))
        self._let_in()
        busy = self.pending_commands or self._in_flight or self._waiting_for_room
        self._sweep = self._loop.call_later(limits.COMMIT_SWEEP_S, self._expire) if busy else None
