"""Replication and commit with one rule broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from chaos.simulation.disk import STATE, Change, Row, SimulatedDisk
from consensus import follower, limits, record
from consensus.follower import Answer
from consensus.leader import Followers
from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse
from consensus.progress import Progress
from consensus.raft_core import Outgoing, RaftCore
from consensus.raft_rules import RaftRules
from consensus.stock import Node
from consensus.waiting import Proposals
from tests.simulation.broken_elections import answer_early

# F1 and F2, as the stock handlers do it.


def stock_commit_index(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py 1022-1033: a snapshot chunk proves nothing about the log, yet the follower takes
    min(leader's commit index, its own last index). Here every message of the term does what a chunk does."""
    _commit_what_the_leader_says(patch, unproved=True)


def uncapped_commit_index(patch: pytest.MonkeyPatch) -> None:
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


def stock_deletion(patch: pytest.MonkeyPatch) -> None:
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


def acknowledgement_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """F3: an answer to an older leadership counts in this one."""

    def on_append_response(self: RaftRules, node: Node, message: AppendResponse) -> None:
        known = self.leads and node.id in self._followers
        if known and message.term <= self.term and message.log_index <= self.log.last_index:
            self._answered_at[node.id] = self._clock()
            self._followers.answered(node.id, message)

    patch.setattr(RaftRules, "_on_append_response", on_append_response)


def old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    """Raft thesis section 3.6.2, figure 3.7."""

    def advance_commit(self: RaftRules) -> None:
        index = self._followers.quorum_index(self.membership)
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    patch.setattr(RaftRules, "_advance_commit", advance_commit)


def no_sync(patch: pytest.MonkeyPatch) -> None:
    """F7: messages leave before what they promise is on disk."""
    patch.setattr(SimulatedDisk, "sync", lambda self: None)


def split_batch(patch: pytest.MonkeyPatch) -> None:
    """The applied index is written before the rows that it speaks of."""
    append = SimulatedDisk.append

    def split(self: SimulatedDisk, changes: list[Change]) -> None:
        if changes[0][0] == STATE:
            append(self, changes[-1:])
            changes = changes[:-1]
        append(self, changes)

    patch.setattr(SimulatedDisk, "append", split)


def early_compaction(patch: pytest.MonkeyPatch) -> None:
    """The log is deleted although a follower still lacks it."""
    patch.setattr(Followers, "match_index_min", lambda self, own_index: own_index)


def acknowledged_before_sync(patch: pytest.MonkeyPatch) -> None:
    """F7, thesis section 3.8: entries are acknowledged before they are on disk."""
    answer_early(patch, AppendResponse)


def leader_counts_itself_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    """F7, thesis section 10.2.1: a leader may send before its own sync, not count itself. Here it counts what
    it has written, and leaves the sync to whatever comes later."""
    settle = RaftCore.settle

    def settle_unsynced(self: RaftCore) -> Iterator[Outgoing]:
        for outgoing in settle(self):
            if self.leads and self.written_size_bytes:
                self.synced()
            yield outgoing

    patch.setattr(RaftCore, "settle", settle_unsynced)


def followers_count_unasked(patch: pytest.MonkeyPatch) -> None:
    """A new leader believes that the others hold what it holds."""
    become = RaftRules._become_leader

    def become_leader(self: RaftRules) -> None:
        become(self)
        for peer_id in self._followers:
            self._followers[peer_id].match_index = self._log.last_index

    patch.setattr(RaftRules, "_become_leader", become_leader)


def commit_index_falls(patch: pytest.MonkeyPatch) -> None:
    """F1: a late message takes the follower's commit index back."""
    on_append = RaftRules._on_append

    def take(self: RaftRules, node: Node, message: Append, terms: list[int]) -> None:
        on_append(self, node, message, terms)
        answer = self._outbox._waiting[node.id][-1]
        if isinstance(answer, AppendResponse) and answer.accepted:
            self._SyncObj__raftCommitIndex = min(message.commit_index, answer.log_index)

    patch.setattr(RaftRules, "_on_append", take)


def commit_index_beyond_the_message(patch: pytest.MonkeyPatch) -> None:
    """F1, on the leader's side: it says what is committed, not what the message shows of it."""
    send = Followers._append

    def append(self: Followers, peer_id: str, standing: Any, records: Sequence[bytes]) -> None:
        send(self, peer_id, standing, records)
        waiting = self._outbox._waiting[peer_id]
        waiting[-1] = msgspec.structs.replace(waiting[-1], commit_index=standing.commit_index)

    patch.setattr(Followers, "_append", append)


def no_consistency_check(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 3.5: entries are taken although the one before them is another one."""
    conflict = follower._conflict

    def any_past(log: DurableLog, commit_index: int, message: Append) -> Answer | None:
        return conflict(log, commit_index, message) if message.prev_index > log.last_index else None

    patch.setattr(follower, "_conflict", any_past)


def committed_entries_are_replaced(patch: pytest.MonkeyPatch) -> None:
    """F2: what is committed is deleted when a leader contradicts it."""
    append = follower.append
    patch.setattr(
        follower, "append", lambda log, commit_index, message, terms: append(log, 0, message, terms)
    )


def jump_behind_the_logs_beginning(patch: pytest.MonkeyPatch) -> None:
    """F10: a leader that goes back in great steps goes where its log no longer is."""
    refused = Progress.refused
    patch.setattr(
        Progress, "refused", lambda self, prev_index, candidate, floor: refused(self, prev_index, 1, 1)
    )


def jump_over_the_conflict(patch: pytest.MonkeyPatch) -> None:
    """F10: a leader that goes back too little never finds where the logs agree."""
    patch.setattr(Followers, "_candidate", lambda self, message: self._log.last_index + 1)


def compaction_in_two_steps(patch: pytest.MonkeyPatch) -> None:
    """F6: the entries go in one batch, what tells where the log begins in another."""
    stage = DurableLog._staged_deletions

    def write_apart(self: DurableLog) -> list[Row]:
        deletions = stage(self)
        if self._deleted_from is None:
            return deletions
        self._store.write([], deletions)
        return []

    patch.setattr(DurableLog, "_staged_deletions", write_apart)


def compaction_of_unapplied_entries(patch: pytest.MonkeyPatch) -> None:
    """Thesis chapter 5: only what is applied, and will still be after a crash, may go."""

    def compact(self: RaftRules) -> None:
        index = self._log.synced_index
        if index - self._log.first_index >= limits.LOG_COMPACTION_STEP_ENTRIES:
            self._log.delete_before(index)

    patch.setattr(RaftRules, "_SyncObj__tryLogCompaction", compact)


def applied_before_synced(patch: pytest.MonkeyPatch) -> None:
    """What is committed elsewhere is applied before it is on this node's own disk."""
    settle = RaftCore.settle

    def hasty(self: RaftCore) -> Iterator[Outgoing]:
        with pytest.MonkeyPatch.context() as unsynced:
            unsynced.setattr(DurableLog, "synced_index", property(lambda self: self.last_index))
            if not self.leads:
                self._SyncObj__applyLogEntries()
        yield from settle(self)

    patch.setattr(RaftCore, "settle", hasty)


def checksums_ignored(patch: pytest.MonkeyPatch) -> None:
    """F12: a damaged record is taken for a good one."""

    def trust(each: bytes) -> record.Header:
        _, index, term, _ = record._HEADER.unpack_from(each)
        return record.Header(index, term, record.kind_of(each))

    patch.setattr(record, "check", trust)


def proposer_of_another_entry_is_told(patch: pytest.MonkeyPatch) -> None:
    """F11: the answer goes to whoever proposed something at that index."""
    patch.setattr(Proposals, "fail", lambda self, reason: None)
    applied = Proposals.applied

    def tell(self: Proposals, index: int, term: int | None, result: object) -> None:
        applied(self, index, self._waiting[index][0] if index in self._waiting else term, result)

    patch.setattr(Proposals, "applied", tell)
