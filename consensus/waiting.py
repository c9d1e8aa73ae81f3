"""Who waits for what on the leader: proposals for their result, reads for a confirmed commit index."""

from __future__ import annotations

from typing import Protocol

from consensus import limits
from consensus.errors import ConsensusError, OutcomeUnknown, ReadFailed, TooManyProposals


class Completion(Protocol):
    """Where an outcome goes; `asyncio.Future` is one. A completion that is done was given up by its owner."""

    def done(self) -> bool: ...
    def set_result(self, result: object, /) -> None: ...
    def set_exception(self, error: ConsensusError, /) -> None: ...


def _fail(completion: Completion, error: ConsensusError) -> None:
    if not completion.done():
        completion.set_exception(error)


def _succeed(completions: list[Completion]) -> None:
    for completion in completions:
        if not completion.done():
            completion.set_result(None)


class Proposals:
    """Entries this leader appended and has not applied, by index; bounded in number and bytes."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, int, Completion]] = {}
        self._size_bytes = 0

    def check_room(self, size_bytes: int) -> None:
        """Raises TooManyProposals when one more of `size_bytes` would be too many."""
        if len(self._waiting) >= limits.PROPOSALS_OUTSTANDING_MAX:
            raise TooManyProposals(f"{len(self._waiting)} proposals wait to be committed")
        if self._waiting and self._size_bytes + size_bytes > limits.PROPOSALS_OUTSTANDING_SIZE_BYTES_MAX:
            raise TooManyProposals(f"{self._size_bytes} bytes of proposals wait to be committed")

    def add(self, index: int, term: int, size_bytes: int, completion: Completion) -> None:
        self._waiting[index] = (term, size_bytes, completion)
        self._size_bytes += size_bytes

    def applied(self, index: int, term: int | None, result: object) -> None:
        """The entry (index, term) was applied; the proposer of that very entry gets the result."""
        waiting = self._waiting.pop(index, None)
        if waiting is None:
            return
        proposed_term, size_bytes, completion = waiting
        self._size_bytes -= size_bytes
        if proposed_term != term:
            _fail(completion, OutcomeUnknown("another entry was committed in its place"))
        elif not completion.done():
            completion.set_result(result)

    def fail(self, reason: str) -> None:
        """Nobody learns here any more what becomes of them."""
        waiting, self._waiting, self._size_bytes = self._waiting, {}, 0
        for _, _, completion in waiting.values():
            _fail(completion, OutcomeUnknown(reason))


class Reads:
    """ReadIndex (Raft thesis section 6.4): one confirmation round at a time, shared by all that wait for it.

    A read joins the round that begins after it came, never one whose messages have left. `round` rises for
    ever; the leader puts it in every append message and followers echo it.
    """

    def __init__(self) -> None:
        self.round = 0
        self.round_open = False
        self._next: list[Completion] = []
        self._waiting: list[Completion] = []
        self._read_index = 0

    def add(self, completion: Completion) -> None:
        """Raises ReadFailed when too many wait."""
        if len(self._next) + len(self._waiting) >= limits.READS_WAITING_MAX:
            raise ReadFailed("too many reads wait for the leader to confirm itself")
        self._next.append(completion)

    def pass_waiting(self) -> None:
        """Whoever waits for a round needs none: the state shows what was committed when it came."""
        passing, self._next = self._next, []
        _succeed(passing)

    def begin_round(self, commit_index: int, *, renewal: bool = False) -> bool:
        """Begins a round for all who wait for one; False when one is open, or nobody does and it is not for
        the `renewal` of a lease."""
        if self.round_open or not (self._next or renewal):
            return False
        self.round += 1
        self.round_open = True
        self._waiting, self._next = self._next, []
        self._read_index = commit_index
        return True

    def finish_round(self, applied_index: int) -> None:
        """A quorum has confirmed the open round; its reads pass once the state shows the read index."""
        if applied_index < self._read_index:
            return
        waiting, self._waiting, self.round_open = self._waiting, [], False
        _succeed(waiting)

    def fail(self, reason: str) -> None:
        waiting = self._waiting + self._next
        self._waiting, self._next, self.round_open = [], [], False
        for completion in waiting:
            _fail(completion, ReadFailed(reason))
