"""Rules of safety, each broken on purpose: what the simulation must catch.

A mutation patches one rule of consensus/ or storage/ for the whole cluster, for as long as `patch` lives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from chaos.simulation import network
from chaos.simulation.disk import STATE, Change, SimulatedDisk
from consensus import follower, messages, record
from consensus.config import Role
from consensus.follower import Answer
from consensus.leader import Followers
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Append, AppendResponse, Message, VoteResponse
from consensus.raft_rules import RaftRules
from consensus.stock import Node
from stele.format.block import information_bytes
from storage import transact
from storage.machine import LedgerMachine
from storage.transition import Transition


class Mutation(NamedTuple):
    """`seeds` is within how many it must be found; `slow` ones need more than a few seconds."""

    rule: str
    patch: Callable[[pytest.MonkeyPatch], None]
    seeds: int
    slow: bool = False


# F1 and F2, as the stock handlers do it.


def _stock_commit_index(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py 1022-1033: a snapshot chunk proves nothing about the log, yet the follower takes
    min(leader's commit index, its own last index). Here every message of the term does what a chunk does."""
    _commit_what_the_leader_says(patch, unproved=True)


def _uncapped_commit_index(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py 1033 alone: the same once the previous entry matches, which proves nothing behind it."""
    _commit_what_the_leader_says(patch, unproved=False)


def _commit_what_the_leader_says(patch: pytest.MonkeyPatch, *, unproved: bool) -> None:
    send, on_append, check = Followers._append, RaftRules._on_append, follower.terms_of

    def append(self: Followers, peer_id: str, standing: Any, records: Sequence[bytes]) -> None:
        send(self, peer_id, standing, records)
        waiting = self._outbox._waiting[peer_id]
        waiting[-1] = msgspec.structs.replace(waiting[-1], commit_index=standing.commit_index)

    def take(self: RaftRules, node: Node, message: Append, terms: list[int]) -> None:
        on_append(self, node, message, terms)
        answer = self._outbox._waiting[node.id][-1]
        proved = isinstance(answer, AppendResponse) and answer.accepted
        if message.term == self.term and (proved or unproved):
            committed = min(message.commit_index, self.log.last_index)
            self._SyncObj__raftCommitIndex = max(self.commit_index, committed)

    def terms_of(message: Append) -> list[int]:
        return check(msgspec.structs.replace(message, commit_index=0))

    patch.setattr(Followers, "_append", append)
    patch.setattr(RaftRules, "_on_append", take)
    patch.setattr(follower, "terms_of", terms_of)


def _stock_deletion(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py 993-1004: everything behind prev_index goes, and comes again."""

    def append(log: DurableLog, commit_index: int, message: Append, terms: list[int]) -> Answer:
        conflict = follower._conflict(log, commit_index, message)
        if conflict is not None:
            return conflict
        if log.first_index <= message.prev_index < log.last_index:
            log.truncate_from(message.prev_index + 1)
        for index, each in enumerate(message.entries, message.prev_index + 1):
            if index == log.last_index + 1:
                log.append(index, record.check(each).entry_term, each)
        return Answer(True, message.prev_index + len(terms))

    patch.setattr(follower, "append", append)


# Elections.


def _lost_vote(patch: pytest.MonkeyPatch) -> None:
    load = DurableLog._load_hard_state

    def forget(self: DurableLog, body: bytes) -> None:
        load(self, body)
        self._hard_state = (self.current_term, None)

    patch.setattr(DurableLog, "_load_hard_state", forget)


def _vote_for_any_log(patch: pytest.MonkeyPatch) -> None:
    """Every candidate's log looks newer than it is to those it asks."""

    def boast(message: Message) -> bytes:
        if hasattr(message, "last_term"):
            message = msgspec.structs.replace(message, last_term=1 << 40)
        return messages.encode(message)

    patch.setattr(network, "encode", boast)


def _vote_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py counts answers, not voters."""
    count = itertools.count()

    def on_vote_response(self: RaftRules, node: Node, message: VoteResponse) -> None:
        ballot = self._ballot
        candidate = ballot is not None and self.role is Role.CANDIDATE and message.term == self.term
        if ballot is not None and candidate and message.granted:
            ballot.granted.add(f"{node.id} {next(count)}")
            self._count(ballot)

    patch.setattr(RaftRules, "_on_vote_response", on_vote_response)
    patch.setattr(Membership, "has_quorum", lambda self, ids: len(ids) >= self.quorum)


# Replication and commit.


def _acknowledgement_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """F3: an answer to an older leadership counts in this one."""

    def on_append_response(self: RaftRules, node: Node, message: AppendResponse) -> None:
        if self.leads and message.term <= self.term and message.log_index <= self.log.last_index:
            self._answered_at[node.id] = self._clock()
            self._followers.answered(node.id, message)

    patch.setattr(RaftRules, "_on_append_response", on_append_response)


def _old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Raft thesis section 3.6.2, figure 3.7."""

    def advance_commit(self: RaftRules) -> None:
        index = self._followers.quorum_index(self.membership)
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    patch.setattr(RaftRules, "_advance_commit", advance_commit)


def _no_sync(patch: pytest.MonkeyPatch) -> None:
    """F7: messages leave before what they promise is on disk."""
    append = SimulatedDisk.append

    def unsynced(self: SimulatedDisk, changes: list[Change], *, sync: bool) -> None:
        append(self, changes, sync=False)

    patch.setattr(SimulatedDisk, "append", unsynced)


def _split_batch(patch: pytest.MonkeyPatch) -> None:
    """The applied index is written before the rows that it speaks of."""
    append = SimulatedDisk.append

    def split(self: SimulatedDisk, changes: list[Change], *, sync: bool) -> None:
        if changes[0][0] == STATE:
            append(self, changes[-1:], sync=False)
            changes = changes[:-1]
        append(self, changes, sync=sync)

    patch.setattr(SimulatedDisk, "append", split)


def _early_compaction(patch: pytest.MonkeyPatch) -> None:
    """The log is deleted although a follower still lacks it."""
    patch.setattr(Followers, "match_index_min", lambda self, own_index: own_index)


# Reads.


def _read_without_quorum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Followers, "quorum_confirmed", lambda self, membership, read_round: True)


def _read_before_no_op(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4, step 1: a new leader does not know yet what is committed."""
    patch.setattr(
        RaftRules, "_no_op_index", property(lambda self: 0, lambda self, index: None), raising=False
    )


# The state machine.


def _skipped_entry(patch: pytest.MonkeyPatch) -> None:
    apply = RaftRules._apply

    def skip(self: RaftRules, index: int, each: bytes) -> None:
        if self.node_id == "n1" and index % 20 == 0:
            self._SyncObj__raftLastApplied = index
        else:
            apply(self, index, each)

    patch.setattr(RaftRules, "_apply", skip)


def _nondeterminism(patch: pytest.MonkeyPatch) -> None:
    count = itertools.count()
    patch.setattr(transact, "information_bytes", lambda by, key: information_bytes(f"{by}{next(count)}", key))


def _lost_idempotency_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transition, "set_first_answer", lambda self, state, key_hash, answer: None)


def _unseen_idempotency_record(patch: pytest.MonkeyPatch) -> None:
    """Within one entry, commands do not see each other's idempotency records."""
    set_answer = Transition.set_first_answer

    def set_first_answer(self: Transition, state: Any, key_hash: bytes, answer: Any) -> None:
        set_answer(self, state, key_hash, answer)
        self._written_answers.clear()

    patch.setattr(Transition, "set_first_answer", set_first_answer)


def _applied_index_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A node applies entries again after a restart."""
    patch.setattr(LedgerMachine, "applied_index", property(lambda self: 0))


MUTATIONS = [
    Mutation("F1: a commit index from a message that proves nothing", _stock_commit_index, 100),
    Mutation("F1: a commit index beyond what the message proved", _uncapped_commit_index, 1000, slow=True),
    Mutation("F2: all entries after prev_index deleted", _stock_deletion, 100),
    Mutation("F3: acknowledgements of older terms count", _acknowledgement_of_any_term, 3000, slow=True),
    Mutation("F7: nothing is synced", _no_sync, 100),
    Mutation("a vote is not on disk", _lost_vote, 3000, slow=True),
    Mutation("a vote for a candidate whose log is behind", _vote_for_any_log, 100),
    Mutation("a vote that arrives twice counts twice", _vote_counted_twice, 1000, slow=True),
    Mutation("entries of old terms are committed by counting", _old_terms_by_counting, 3000, slow=True),
    Mutation("rows and applied index in two batches", _split_batch, 100),
    Mutation("compaction before every member has the entries", _early_compaction, 100),
    Mutation("a read does not ask a quorum", _read_without_quorum, 1000, slow=True),
    Mutation("a read before the term's no-op is committed", _read_before_no_op, 200),
    Mutation("a node skips an entry", _skipped_entry, 100),
    Mutation("apply is not deterministic", _nondeterminism, 100),
    Mutation("idempotency records are lost", _lost_idempotency_record, 100),
    Mutation("idempotency records are not seen within an entry", _unseen_idempotency_record, 100),
    Mutation("entries are applied again after a restart", _applied_index_not_stored, 100),
]
