"""The rules of Raft that PySyncObj gets wrong, each replaced with its source beside it.

PySyncObj keeps term and vote, role and the tick; elections are in election.py, membership changes in
changes.py.
F1..F12 are the numbers of CONSENSUS.md; "thesis" is Diego Ongaro, "Consensus: Bridging Theory and Practice",
2014. How overriding a private method works is told in stock.py.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from consensus import follower, limits, membership, membership_history, record
from consensus.budget import Budget
from consensus.config import CatchUp, ReadLease, Role, Timing
from consensus.election import Elections
from consensus.errors import EntryNotApplied, InvariantBroken, LogCorrupt, ReplicaStopped
from consensus.leader import Followers, Standing
from consensus.lease import Lease
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Append, AppendResponse, InstallSnapshot, SnapshotResponse
from consensus.record import Kind
from consensus.snapshot import Snapshot, SnapshotFailed, SnapshotSink, SnapshotSource
from consensus.snapshot_streams import SnapshotStreams
from consensus.state_machine import StateMachine
from consensus.stock import Node
from consensus.transfer import Transfer
from consensus.waiting import Proposals, Reads

logger = logging.getLogger(__name__)


class RaftRules(Elections):
    """One member of one Raft group, from the inside; RaftCore is what its driver uses."""

    def __init__(
        self,
        node_id: str,
        bootstrap: Membership,
        *,
        log: DurableLog,
        state_machine: StateMachine,
        timing: Timing,
        clock: Callable[[], float],
        rng: random.Random,
        catch_up: CatchUp | None = None,
        read_lease: ReadLease | None = None,
        snapshot_source: SnapshotSource | None = None,
        snapshot_sink: SnapshotSink | None = None,
    ) -> None:
        self.proposals = Proposals()
        self.reads = Reads()
        self._machine = state_machine
        self._stopped = False
        self._retain_index = 0
        self._unwanted_index = 0
        self._no_op_index = 0
        self._transfer: Transfer | None = None
        self._lease: Lease | None = None
        super().__init__(
            node_id, bootstrap, log=log, timing=timing, clock=clock, rng=rng, read_lease=read_lease
        )
        self._catch_up = catch_up or CatchUp()
        self._snapshot_sink = snapshot_sink
        self._keeps_for_all = snapshot_source is None
        self._snapshot_unkept: str | None = None
        self._followers = self._new_followers(snapshot_source)
        self._resume()

    def _new_followers(self, source: SnapshotSource | None) -> Followers:
        log, outbox, clock = self._log, self._outbox, self._clock
        budget = Budget(self._catch_up.rate_bytes_s, clock)
        streams = None if source is None else SnapshotStreams(source, log, outbox, budget, clock)
        return Followers(
            self.node_id,
            log,
            outbox,
            clock=clock,
            budget=budget,
            streams=streams,
            promise_us=self._promise_us,
        )

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

    def _check_running(self) -> None:
        if self._stopped:
            raise ReplicaStopped("this node has stopped")

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
            self._followers.reset()
        self._retain_index = 0

    def _become_leader(self) -> None:
        """Thesis section 3.4, and 6.4: a no-op of the new term, which lets earlier entries commit.

        The first leader there is adds the first membership entry, before any entry of a client: who has which
        disk. It changes nobody's vote, so it need not wait for the no-op as changes do (F9).
        Synced at once: in a cluster of one the commit rule runs in this very tick and counts this node.
        """
        self._withdraw()
        if self._read_lease is not None:
            length_s = self._read_lease.length_s(self._timing.election_s_min)
            self._lease = Lease(length_s, self._timing.heartbeat_s)
        self._SyncObj__raftLeader = Node(self.node_id)
        self._SyncObj__setState(Role.LEADER)
        self._followers.reset()
        self._answered_at.clear()
        self._replicate_to_members()
        self._no_op_index = self._log.append_new(self.term, Kind.NO_OP, b"")
        if self._log.memberships.latest is None:
            known = self._incarnations | {self.node_id: self.incarnation}
            first = self._bootstrap.with_incarnations(known)
            self._log.append_new(self.term, Kind.MEMBERSHIP, membership.encode(first))
        self._log.sync()
        self._heartbeat_now()

    def _replicate_to_members(self) -> None:
        """The members of the latest membership get the log; so do those of the one before, until it is
        certain that they are members no more (thesis section 4.2.2)."""
        ids = self.membership.ids | self.committed_membership.ids
        for peer_id in sorted(ids - {self.node_id}):
            if peer_id not in self._followers:
                self._followers.add(peer_id)
                self._answered_at[peer_id] = self._clock()
        for peer_id in [each for each in self._followers if each not in ids]:
            # That it is no member any more.
            self._followers.send(self._standing(), [peer_id], heartbeat=True)
            self._followers.drop(peer_id)
            del self._answered_at[peer_id]

    # Replication, the follower's side.

    def _on_append(self, node: Node, message: Append, terms: list[int]) -> None:
        """Thesis section 3.5. F1: the commit index follows what this message proved, and never falls."""
        if message.term < self.term:
            # Without its round and its index: the sender may have become the leader of this term since, with
            # another log and, after a restart, other rounds; it would take the answer for one to those.
            self._outbox.put(node.id, AppendResponse(self.term, False, 0, 0, 0, 0))
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
            if self._snapshot_sink is not None:
                self._snapshot_sink.discard()  # The log goes on, so no snapshot is needed.
        self._outbox.put(node.id, AppendResponse(self.term, *answer, message.round, self._promise_us))

    def _on_install_snapshot(self, node: Node, message: InstallSnapshot) -> None:
        """Thesis section 5.3, with F1, F4 and F5: whoever needs the snapshot keeps the chunk, and nothing of
        it counts before the node has been started again with all of it."""
        digest = message.snapshot.digest
        if message.term < self.term:
            self._outbox.put(node.id, SnapshotResponse(self.term, digest, False, 0))
            return
        if self.leads:
            raise InvariantBroken(f"{node.id} and {self.node_id} both lead term {self.term}")
        self._follow(node)
        held = follower.held_of(self._log, self.commit_index, message.snapshot)
        if held is None:
            kept = self._keep_chunk(message)
            self._outbox.put(node.id, SnapshotResponse(self.term, digest, *kept))
            return
        self._SyncObj__raftCommitIndex = max(self.commit_index, held)
        if self._snapshot_sink is not None:
            self._snapshot_sink.discard()
        self._outbox.put(node.id, AppendResponse(self.term, True, held, 0, 0, 0))

    def _keep_chunk(self, message: InstallSnapshot) -> follower.Kept:
        """What cannot be kept (the disk is full) is asked for again with each heartbeat; reported once."""
        if self._snapshot_sink is None:
            return follower.Kept(False, 0)
        try:
            return follower.keep_chunk(self._snapshot_sink, message)
        except SnapshotFailed as error:
            if self._snapshot_unkept != str(error):
                self._snapshot_unkept = str(error)
                logger.error("the snapshot that this node needs cannot be kept: %s", error)
            return follower.Kept(False, 0)

    def needs(self, snapshot: Snapshot) -> bool:
        """Whether to install a snapshot that was received is still right (F4, F5)."""
        return follower.held_of(self._log, self.commit_index, snapshot) is None

    # Replication, the leader's side.

    def _on_append_response(self, node: Node, message: AppendResponse) -> None:
        """F3: an answer to an older leadership acknowledges nothing of this one (thesis section 3.6.2)."""
        if not self.leads or message.term != self.term or not message.log_index:
            return
        if node.id in self._followers:
            self._answered_at[node.id] = self._clock()
            self._followers.answered(node.id, message)

    def _on_snapshot_response(self, node: Node, message: SnapshotResponse) -> None:
        if self.leads and message.term == self.term and node.id in self._followers:
            self._answered_at[node.id] = self._clock()
            self._followers.snapshot_answered(node.id, message)

    def _membership_at(self, index: int) -> bytes:
        entry = self._log.memberships.at(index)
        return b"" if entry is None else membership_history.encode(entry)

    def _SyncObj__sendAppendEntries(self) -> None:
        """Thesis sections 3.5 and 10.2: new entries go at once, heartbeats when due, never one more
        than the window of a follower allows. The stock tick decides when this is called."""
        now = self._clock()
        heartbeat = now > self._SyncObj__newAppendEntriesTime
        if heartbeat:
            self._SyncObj__newAppendEntriesTime = now + self._timing.heartbeat_s
            self._followers.pace()
            self._followers.advance_snapshots(self._machine.applied_index, self._membership_at)
        retain_index = min(self._log.synced_index, self._followers.match_index_min(self._log.synced_index))
        self._retain_index = max(self._retain_index, retain_index)
        connected = [peer_id for peer_id in self._followers if peer_id in self._connected]
        self._followers.send(self._standing(), connected, heartbeat=heartbeat)

    def _standing(self) -> Standing:
        return Standing(self.term, self.commit_index, self.reads.round, self._retain_index)

    def _heartbeat_now(self) -> None:
        self._SyncObj__newAppendEntriesTime = float("-inf")
        self._SyncObj__sendAppendEntries()

    def _advance_reads(self) -> None:
        """ReadIndex, thesis section 6.4: (1) an entry of this term is committed; (2) the commit index is the
        read index; (3) a quorum answers a round begun after that; (4) the state machine is there."""
        if self.commit_index < self._no_op_index:
            return
        lease, now = self._lease, self._clock()
        if lease is not None and lease.holds(now) and self.applied_index == self.commit_index:
            self.reads.pass_waiting()
        for _ in range(2):  # Without followers a round is confirmed as soon as it begins.
            if self.reads.round_open and self._followers.quorum_confirmed(self.membership, self.reads.round):
                if lease is not None and self._followers.quorum_promised(self.membership, self.reads.round):
                    lease.round_confirmed()
                self.reads.finish_round(self.applied_index)
            renewal = lease is not None and lease.due(now)
            if not self.reads.begin_round(self.commit_index, renewal=renewal):
                return
            if lease is not None:
                lease.round_begins(now)
            self._heartbeat_now()

    # Commit and apply.

    def _SyncObj__getCurrentLogIndex(self) -> int:
        """Only the stock commit rule still asks; with this answer it finds nothing to count."""
        return self.commit_index

    def _SyncObj__getCurrentLogTerm(self) -> int:
        return self._log.last_term

    def _advance_commit(self) -> None:
        """Thesis section 3.6.2: an entry of the leader's term is committed once a majority of the voters has
        it on disk, and with it whatever is before it. Terms never fall along a log, so when the last entry
        that a majority has is of an older term, they all are.

        The voters are those of the latest membership, committed or not (section 4.1); a leader that is not
        one of them counts the others only (section 4.2.2).
        """
        index = self._followers.quorum_index(self.membership)
        if index <= self.commit_index or self._log.term_at(index) != self.term:
            return
        was_committed = self.membership_committed
        self._SyncObj__raftCommitIndex = index
        if self.membership_committed and not was_committed:
            self._replicate_to_members()

    def _check_quorum(self) -> None:
        """Thesis section 6.2: a leader that no majority of the voters has answered for long steps down."""
        silent_since = self._clock() - self._timing.leader_fallback_s
        heard = {peer_id for peer_id, answered_at in self._answered_at.items() if answered_at > silent_since}
        if not self.membership.has_quorum(heard | {self.node_id}):
            self._SyncObj__setState(Role.FOLLOWER)
            self._SyncObj__raftLeader = None

    def _SyncObj__applyLogEntries(self) -> bool:
        """Thesis section 3.5: applies what is committed, in order, once. True if there is something to send.

        The stock tick calls this right after its own commit rule and check-quorum, hence ours come first.
        Stock logs an exception of apply and tries the same entry for ever; here it stops the node.
        """
        if self.leads:
            self._advance_commit()
            self._check_quorum()
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
                raise EntryNotApplied(f"entry {index} could not be applied: {error}") from error
        self._SyncObj__raftLastApplied = index
        self.proposals.applied(index, self._log.term_at(index), result)

    def _unwanted_before(self) -> int:
        """The log is to begin here or later. Nobody whom the leader hears is left behind for it; others get a
        snapshot."""
        if self._unwanted_index < self._log.first_index:
            return 0
        held = min(self._retain_index, self.applied_index)
        if not self._keeps_for_all:
            last = self._machine.applied_index
            held = max(held, self._followers.needed_index(last) if self.leads else last)
        return min(held, self._unwanted_index + 1)

    def _SyncObj__tryLogCompaction(self) -> None:
        """Deletes the beginning of the log in one atomic batch (F6; thesis chapter 5): what every member has,
        and what is more than is kept for those that have not; they get a snapshot.
        What is to go (`compact_to`) goes however little it is."""
        log, sizes = self._log, self._log.sizes
        index = min(self._retain_index, self.applied_index) - limits.LOG_RETAINED_ENTRIES
        retained_size_bytes = self._catch_up.log_retained_size_bytes
        if not self._keeps_for_all and sizes.total > retained_size_bytes:
            outgrown = sizes.first_within(limits.LOG_PINNED_FACTOR * retained_size_bytes)
            pinned = self._followers.pinned_index(log.last_index) if self.leads else log.last_index
            index = max(index, min(sizes.first_within(retained_size_bytes), max(pinned, outgrown)))
        step_size_bytes = min(limits.LOG_COMPACTION_STEP_SIZE_BYTES, retained_size_bytes)
        few = index - log.first_index < limits.LOG_COMPACTION_STEP_ENTRIES
        unwanted = self._unwanted_before()
        if unwanted > log.first_index:
            index = max(index, unwanted)
        elif few and (index <= log.first_index or sizes.before(index) < step_size_bytes):
            return
        # Entries behind the last one applied to the state machine may be needed again after a crash.
        index = min(index, self._machine.applied_index)
        if index > log.first_index:
            log.delete_before(index)
