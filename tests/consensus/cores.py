"""One RaftCore on a real store, driven by hand: its clock stands still until it is moved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from consensus import record
from consensus.config import Timing
from consensus.errors import ConsensusError
from consensus.log import DurableLog
from consensus.log_rows import membership_row
from consensus.log_store import LogStore
from consensus.membership import Member, Membership
from consensus.membership_history import MembershipEntry
from consensus.messages import (
    Append,
    AppendResponse,
    Contacts,
    Message,
    PreVote,
    PreVoteResponse,
    VoteResponse,
)
from consensus.raft_core import RaftCore
from consensus.record import Kind
from consensus.state_machine import StateMachine
from tests.consensus.rocks import Recorder, RocksStore

TIMING = Timing()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Outcome:
    """A completion that remembers what it was told."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: ConsensusError | None = None
        self.told = False

    def done(self) -> bool:
        return self.told

    def set_result(self, result: object) -> None:
        self.result, self.told = result, True

    def set_exception(self, error: ConsensusError) -> None:
        self.error, self.told = error, True


def members(size: int, *, known: bool = False) -> Membership:
    """n0, n1, ..., all voters; nobody's incarnation is known, or that of nI is I + 1 in every byte."""
    return Membership(
        tuple(
            Member(f"n{i}", f"z{i}", "h", 7500 + i, incarnation=bytes([i + 1]) * 16 if known else b"")
            for i in range(size)
        )
    )


class Bench:
    """A member n0 of a cluster, its store in `path`, and shorthands for what its peers would do.

    Its log begins with entry 1 and a membership of `size` voters, without which nobody is elected by a
    majority; with `bootstrap`, it is empty. `settings` go to the core.
    """

    def __init__(
        self,
        path: Path,
        size: int = 3,
        machine: StateMachine | None = None,
        *,
        bootstrap: bool = False,
        **settings: Any,
    ) -> None:
        self.settings = settings
        self.store = RocksStore(path)
        if not bootstrap:
            log = DurableLog(self.store)
            log.append_new(0, Kind.NO_OP, b"")
            log.sync()
            self.store.write([membership_row(MembershipEntry(1, members(size)))], [])
            self.store.batches = 0
        self.machine: StateMachine = machine or Recorder()
        self.clock = Clock()
        self.size = size
        self.core = self.new_core(self.store)

    def new_core(self, store: LogStore) -> RaftCore:
        ids = [f"n{i}" for i in range(self.size)]
        core = RaftCore(
            "n0",
            members(self.size),
            log=DurableLog(store),
            state_machine=self.machine,
            timing=TIMING,
            clock=self.clock,
            rng=random.Random(1),
            **self.settings,
        )
        for peer_id in ids[1:]:
            core.peer_greeted(peer_id, members(self.size, known=True)[peer_id].incarnation)
            core.peer_connected(peer_id)
        return core

    def restart(self) -> None:
        """As after kill -9: what was not synced is gone."""
        self.core = self.new_core(self.store)

    def settle(self) -> list[tuple[str, Message]]:
        """Settles, and lists what may be sent as (target, message), without the contacts it tells."""
        steps = self.core.settle()
        sent = [(target, each) for step in steps for target, messages in step for each in messages]
        return [(target, each) for target, each in sent if not isinstance(each, Contacts)]

    def wait(self, seconds: float) -> list[tuple[str, Message]]:
        """Lets time pass, a tick at a time; lists what is sent meanwhile."""
        sent: list[tuple[str, Message]] = []
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + TIMING.tick_s)
            sent += self.settle()
        return sent or self.settle()

    def stand(self) -> list[tuple[str, Message]]:
        """Lets time pass until n0 stands for election with every pre-vote; lists what it then sends."""
        asked = self.core.term + 1
        if self.size == 1:
            return self.wait(TIMING.election_s_max)
        self.wait_for_pre_vote()
        for number in range(1, self.size):
            self.core.receive(f"n{number}", PreVoteResponse(self.core.term, asked, True))
        sent = self.settle()
        assert self.core.term == asked
        return sent

    def wait_for_pre_vote(self) -> list[tuple[str, Message]]:
        """Lets time pass until n0 asks for pre-votes; lists what it then sends."""
        sent: list[tuple[str, Message]] = []
        deadline = self.clock.now + 10 * TIMING.election_s_max
        while not any(isinstance(message, PreVote) for _, message in sent):
            assert self.clock.now < deadline, "n0 asks for no pre-votes"
            sent = self.wait(TIMING.tick_s)
        return sent

    def elect(self) -> int:
        """Makes n0 leader with the votes of half of the others; returns the term."""
        self.stand()
        for number in range(1, self.size // 2 + 1):
            self.core.receive(f"n{number}", VoteResponse(self.core.term, True))
        self.settle()
        assert self.core.leads
        return self.core.term

    def acknowledge(
        self, peer_id: str, index: int | None = None, read_round: int = 0, promise_us: int = 0
    ) -> None:
        last_index = self.core.log.last_index if index is None else index
        answer = AppendResponse(self.core.term, True, last_index, 0, 0, read_round, promise_us)
        self.core.receive(peer_id, answer)

    def answer_to(self, sender_id: str, message: Message) -> Message:
        """What n0 answers to a message, once it is settled."""
        self.core.receive(sender_id, message)
        [answer] = [each for target, each in self.settle() if target == sender_id]
        return answer


def entries(first: int, *terms: int, payload: bytes = b"x") -> tuple[bytes, ...]:
    """Records from index `first` on, of the given terms."""
    return tuple(record.encode(first + i, term, Kind.REGULAR, payload) for i, term in enumerate(terms))


def append(
    term: int, prev: tuple[int, int] = (1, 0), records: tuple[bytes, ...] = (), commit_index: int = 1
) -> Append:
    """An append message; `prev` is (index, term)."""
    return Append(term, prev[0], prev[1], records, commit_index, 0, 0)
