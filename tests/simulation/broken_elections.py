"""Elections with one rule broken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import pytest

from chaos.simulation import network
from consensus import messages
from consensus.config import Role
from consensus.election import Elections
from consensus.log import DurableLog
from consensus.messages import Message, RequestVote, TimeoutNow, VoteResponse
from consensus.raft_core import Outgoing, RaftCore
from consensus.raft_rules import RaftRules
from consensus.stock import Node
from consensus.waiting import Completion


def lost_vote(patch: pytest.MonkeyPatch) -> None:
    load = DurableLog._load_hard_state

    def forget(self: DurableLog, row: bytes) -> None:
        load(self, row)
        self._hard_state = (self.current_term, None)

    patch.setattr(DurableLog, "_load_hard_state", forget)


def vote_for_any_log(patch: pytest.MonkeyPatch) -> None:
    """Every candidate's log looks newer than it is to those it asks."""

    def boast(message: Message) -> bytes:
        if hasattr(message, "last_term"):
            message = msgspec.structs.replace(message, last_term=1 << 40)
        return messages.encode(message)

    patch.setattr(network, "encode", boast)


def vote_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py counts answers, not voters."""
    count = itertools.count()

    def on_vote_response(self: RaftRules, node: Node, message: VoteResponse) -> None:
        ballot = self._ballot
        candidate = ballot is not None and self.role is Role.CANDIDATE and message.term == self.term
        if ballot is not None and candidate and message.granted:
            ballot.granted.add(f"{node.id} {next(count)}")
            self._count(ballot)

    patch.setattr(RaftRules, "_on_vote_response", on_vote_response)

    def has_won(self: Elections, granted: set[str]) -> bool:
        first = self._log.memberships.latest is None
        needed = len(self.membership.voters) if first else self.membership.quorum
        return len(granted) + 1 >= needed

    patch.setattr(Elections, "_has_won", has_won)


def term_not_on_disk(patch: pytest.MonkeyPatch) -> None:
    """A node that restarts knows no more of terms than its log's entries tell."""

    def forget(self: DurableLog, row: bytes) -> None:
        self._hard_state = (self.last_term, None)

    patch.setattr(DurableLog, "_load_hard_state", forget)


def vote_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.8: a vote leaves before it is on disk."""
    answer_early(patch, VoteResponse)


def answer_early(patch: pytest.MonkeyPatch, kind: type[Message]) -> None:
    """Messages of one kind do not wait for the sync."""
    settle = RaftCore.settle

    def impatient(self: RaftCore) -> Iterator[Outgoing]:
        early: Outgoing = []
        for peer_id, waiting in self._outbox._waiting.items():
            early.append((peer_id, [each for each in waiting if isinstance(each, kind)]))
            waiting[:] = [each for each in waiting if not isinstance(each, kind)]
        yield early
        yield from settle(self)

    patch.setattr(RaftCore, "settle", impatient)


def two_votes_in_a_term(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.4: first come, first served, and nobody after that."""
    on_request_vote = Elections._on_request_vote

    def vote_again(self: Elections, node: Node, message: RequestVote) -> None:
        if not self.leads:
            self._SyncObj__votedForNodeId = None
        on_request_vote(self, node, message)

    patch.setattr(Elections, "_on_request_vote", vote_again)


def votes_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """A vote for an earlier candidacy counts in this one."""

    def on_vote_response(self: RaftRules, node: Node, message: VoteResponse) -> None:
        ballot = self._ballot
        if ballot is not None and self.role is Role.CANDIDATE and message.granted:
            ballot.granted.add(node.id)
            self._count(ballot)

    patch.setattr(RaftRules, "_on_vote_response", on_vote_response)


def half_is_enough(patch: pytest.MonkeyPatch) -> None:
    """One vote less than a majority."""
    patch.setattr(
        Elections,
        "_has_won",
        lambda self, granted: len(granted) + 2 >= self.membership.quorum + (self.node_id in granted),
    )


# What a test shows, because safety does not depend on it.


def no_pre_vote(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 9.6."""
    patch.setattr(Elections, "_begin_pre_vote", lambda self: self._stand(transfer=False))


def pre_vote_against_a_leader(patch: pytest.MonkeyPatch) -> None:
    """Thesis sections 9.6 and 4.2.3: members that hear a leader depose it all the same."""
    patch.setattr(Elections, "_trusts_leader", lambda self: False)


def no_check_quorum(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.2: a leader without a majority stays."""
    tick = Elections._tick

    def never_alone(self: Elections) -> None:
        for peer_id in self._answered_at:
            self._answered_at[peer_id] = self._clock()
        tick(self)

    patch.setattr(Elections, "_tick", never_alone)


def higher_term_ignored_by_a_leader(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.3."""
    observe = RaftRules._observe_term

    def observe_term(self: RaftRules, term: int) -> None:
        if not self.leads:
            observe(self, term)

    patch.setattr(RaftRules, "_observe_term", observe_term)


def transfer_to_who_lacks_entries(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.10: the target stands although it lacks entries."""

    def advance(self: RaftCore) -> None:
        if self._transfer is not None and self.leads:
            self._outbox.put(self._transfer.target_id, TimeoutNow(self.term))

    patch.setattr(RaftCore, "_advance_transfer", advance)


def transfer_is_not_marked(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.2.3: without the mark, those who hear the leader disregard its heir."""
    stand = Elections._stand
    patch.setattr(Elections, "_stand", lambda self, transfer: stand(self, transfer=False))


def stands_for_anybody(patch: pytest.MonkeyPatch) -> None:
    """A member that is told to stand does not ask whether its leader says so."""
    patch.setattr(Elections, "_on_timeout_now", lambda self, node, message: self._stand(transfer=True))


def proposals_during_a_transfer(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.10, step 1: the old leader takes no more requests."""
    propose = RaftCore.propose

    def propose_on(self: RaftCore, payload: bytes, completion: Completion) -> int:
        transfer, self._transfer = self._transfer, None
        try:
            return propose(self, payload, completion)
        finally:
            self._transfer = transfer

    patch.setattr(RaftCore, "propose", propose_on)
