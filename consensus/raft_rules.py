"""The rules of Raft that PySyncObj gets wrong, each replaced with its source beside it.

PySyncObj keeps term and vote, the commit rule, check-quorum and the tick; elections are in election.py.
F1..F12 are the numbers of CONSENSUS.md; "thesis" is Diego Ongaro, "Consensus: Bridging Theory and Practice",
2014. How overriding a private method works is told in stock.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from consensus import follower, limits, record
from consensus.config import Role, Timing
from consensus.election import Elections
from consensus.errors import InvariantBroken, LogCorrupt, MalformedMessage, TransferFailed
from consensus.leader import Followers, Standing
from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse, TimeoutNow
from consensus.record import Kind
from consensus.state_machine import StateMachine
from consensus.stock import Node
from consensus.transfer import Transfer
from consensus.waiting import Proposals, Reads


class RaftRules(Elections):
    """One member of one Raft group, from the inside; RaftCore is what its driver uses."""

    def __init__(
        self,
        node_id: str,
        member_ids: Sequence[str],
        *,
        log: DurableLog,
        state_machine: StateMachine,
        timing: Timing,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.proposals = Proposals()
        self.reads = Reads()
        self._machine = state_machine
        self._stopped = False
        self._retain_index = 0
        self._unwanted_index = 0
        self._no_op_index = 0
        self._transfer: Transfer | None = None
        super().__init__(node_id, member_ids, log=log, timing=timing, clock=clock, rng=rng)
        self._followers = Followers(log, self._outbox)
        self._resume()

    def _resume(self) -> None:
        """Applied entries are never applied again; they were committed (thesis section 3.8)."""
        applied_index = max(1, self._machine.applied_index)
        if applied_index > self._log.last_index:
            raise LogCorrupt(
                f"the state machine applied {applied_index}; the log ends at {self._log.last_index}"
            )
        if applied_index < self._log.first_index:
            raise LogCorrupt(
                f"the state machine applied {applied_index}; the log begins at {self._log.first_index}"
            )
        self._SyncObj__raftLastApplied = self._SyncObj__raftCommitIndex = applied_index

    @property
    def commit_index(self) -> int:
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._SyncObj__raftLastApplied

    @property
    def log(self) -> DurableLog:
        """For reading only."""
        return self._log

    # Terms and roles.

    def _observe_term(self, term: int) -> None:
        if term > self.term:
            self._retain_index = 0  # It is what the leader of one term knows.
        super()._observe_term(term)

    def _on_role_changed(self, old_role: int, new_role: int) -> None:
        super()._on_role_changed(old_role, new_role)
        if old_role == Role.LEADER:
            # Section 6.2: a leader without a quorum steps down, so that clients are not kept waiting.
            self.proposals.fail("this node lost the leadership")
            self.reads.fail("this node lost the leadership")
        self._retain_index = 0

    def _SyncObj__onBecomeLeader(self) -> None:
        """Thesis section 3.4, and 6.4: a no-op of the new term, which lets earlier entries commit.

        Synced at once: in a cluster of one the commit rule runs in this very tick and counts this node.
        """
        self._withdraw()
        self._SyncObj__raftLeader = Node(self.node_id)
        self._SyncObj__setState(Role.LEADER)
        now = self._clock()
        self._SyncObj__raftMatchIndex = dict.fromkeys(self._nodes.values(), 0)
        self._SyncObj__lastResponseTime = dict.fromkeys(self._nodes.values(), now)
        self._followers.reset(self._nodes)
        self._no_op_index = self._log.append_new(self.term, Kind.NO_OP, b"")
        self._log.sync()
        self._heartbeat_now()

    # Replication, the follower's side.

    def _on_append(self, node: Node, message: Append, terms: list[int]) -> None:
        """Thesis section 3.5. F1: the commit index follows what this message proved, and never falls."""
        if message.term < self.term:
            # Without its round: the sender may have restarted since, begun to count rounds again, and become
            # the leader of this term; it would take the answer for one to a round still to come.
            refusal = AppendResponse(self.term, False, message.prev_index, 0, 0, 0)
            self._outbox.put(node.id, refusal)
            return
        if self.leads:
            raise InvariantBroken(f"{node.id} and {self.node_id} both lead term {self.term}")
        self._follow(node)
        answer = follower.append(self._log, self.commit_index, message, terms)
        if answer.accepted:
            self._SyncObj__raftCommitIndex = max(
                self.commit_index, min(message.commit_index, answer.log_index)
            )
            self._retain_index = max(self._retain_index, message.retain_index)
        self._outbox.put(node.id, AppendResponse(self.term, *answer, message.round))

    # Replication, the leader's side.

    def _on_append_response(self, node: Node, message: AppendResponse) -> None:
        """F3: an answer to an older leadership acknowledges nothing of this one (thesis section 3.6.2)."""
        if not self.leads or message.term != self.term:
            return
        self._SyncObj__lastResponseTime[node] = self._clock()
        self._SyncObj__raftMatchIndex[node] = self._followers.answered(node.id, message)

    def _check_answer(self, message: AppendResponse) -> None:
        if self.leads and message.log_index > self._log.last_index:
            raise MalformedMessage(f"an answer for entry {message.log_index}, which was never sent")

    def _SyncObj__sendAppendEntries(self) -> None:
        """Thesis sections 3.5 and 10.2: new entries go at once, heartbeats when due, never one more
        than the window of a follower allows. The stock tick decides when this is called."""
        now = self._clock()
        heartbeat = now > self._SyncObj__newAppendEntriesTime
        if heartbeat:
            self._SyncObj__newAppendEntriesTime = now + self._timing.heartbeat_s
        retain_index = min(self._log.synced_index, self._followers.match_index_min(self._log.synced_index))
        self._retain_index = max(self._retain_index, retain_index)
        standing = Standing(self.term, self.commit_index, self.reads.round, self._retain_index)
        for peer_id, node in self._nodes.items():
            if self.isNodeConnected(node):
                self._followers.send(peer_id, standing, heartbeat=heartbeat)

    def _heartbeat_now(self) -> None:
        self._SyncObj__newAppendEntriesTime = float("-inf")
        self._SyncObj__sendAppendEntries()

    def _advance_reads(self) -> None:
        """ReadIndex, thesis section 6.4: (1) an entry of this term is committed; (2) the commit index is the
        read index; (3) a quorum answers a round begun after that; (4) the state machine is there."""
        if self.commit_index < self._no_op_index:
            return
        for _ in range(2):  # Without followers a round is confirmed as soon as it begins.
            if self.reads.round_open and self._followers.quorum_confirmed(self.reads.round):
                self.reads.finish_round(self.applied_index)
            if not self.reads.begin_round(self.commit_index):
                return
            self._heartbeat_now()

    # Leadership transfer.

    def _most_complete(self) -> str:
        """The connected follower that is nearest to the end of the log, and was heard last."""
        connected = [node for node in self._nodes.values() if self.isNodeConnected(node)]
        if not connected:
            raise TransferFailed("no other member is connected")
        heard_at = self._SyncObj__lastResponseTime
        return max(connected, key=lambda node: (self._followers[node.id].match_index, heard_at[node])).id

    def _advance_transfer(self) -> None:
        """Thesis section 3.10: once the target has the whole log, it is told to stand; repeated, as it may be
        lost. Everything is applied before, so that no proposer is left without an answer."""
        transfer, now = self._transfer, self._clock()
        if transfer is None:
            return
        if not self.leads and self.leader_id is not None:
            self._transfer = None
            transfer.done(self.leader_id)
        elif now >= transfer.deadline or not self.isNodeConnected(self._nodes[transfer.target_id]):
            self._transfer = None
            transfer.fail(f"{transfer.target_id} did not take over in time, or is gone")
        elif self.leads and now - transfer.asked_at >= self._timing.heartbeat_s:
            last_index = self._log.last_index
            if self._followers[transfer.target_id].match_index == last_index == self.applied_index:
                transfer.asked_at = now
                self._outbox.put(transfer.target_id, TimeoutNow(self.term))

    # Commit and apply.

    def _SyncObj__getCurrentLogIndex(self) -> int:
        return self._log.last_index

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return self._log.last_term

    def _SyncObj__getEntries(
        self, fromIDx: int, count: int | None = None, maxSizeBytes: int | None = None
    ) -> list[tuple[None, int, int]]:
        """Only the stock commit rule still asks, for the term of one entry (thesis section 3.6.2)."""
        term = self._log.term_at(fromIDx)
        if count != 1 or term is None:
            raise InvariantBroken(f"PySyncObj read {count} entries from {fromIDx} past its subclass")
        return [(None, fromIDx, term)]

    def _SyncObj__applyLogEntries(self) -> bool:
        """Thesis section 3.5: applies what is committed, in order, once. True if there is something to send.

        Stock logs an exception of apply and tries the same entry for ever; here it stops the node.
        """
        first = self.applied_index + 1
        commit_index = self.commit_index
        if commit_index > self._log.synced_index:
            raise InvariantBroken(f"entry {commit_index} is committed but not on this node's disk")
        if first <= commit_index:
            records = self._log.records(
                first,
                last=commit_index,
                count_max=limits.APPLY_ENTRIES_PER_TICK_MAX,
                size_bytes_max=limits.APPLY_SIZE_BYTES_PER_TICK_MAX,
            )
            for index, each in enumerate(records, first):
                self._apply(index, each)
        return self.leads and self._followers.any_to_send(self.commit_index)

    def _apply(self, index: int, record_bytes: bytes) -> None:
        result: object = None
        if record.kind_of(record_bytes) is Kind.REGULAR:
            try:
                result = self._machine.apply(index, record.payload_of(record_bytes))
            except Exception as error:
                raise InvariantBroken(f"entry {index} could not be applied: {error}") from error
        self._SyncObj__raftLastApplied = index
        self.proposals.applied(index, self._log.term_at(index), result)

    def _SyncObj__tryLogCompaction(self) -> None:
        """Deletes what every member has and this one applied, in one atomic batch (F6; thesis chapter 5).

        There are no snapshots: a member that is down keeps the log of the others growing.
        """
        held = min(self._retain_index, self.applied_index)
        index = held - limits.LOG_RETAINED_ENTRIES
        unwanted = min(held, self._unwanted_index + 1)
        if unwanted > self._log.first_index:
            index = max(index, unwanted)
        elif index - self._log.first_index < limits.LOG_COMPACTION_STEP_ENTRIES:
            return
        # Entries behind the last one applied to the state machine may be needed again after a crash.
        index = min(index, self._machine.applied_index)
        if index > self._log.first_index:
            self._log.delete_before(index)
