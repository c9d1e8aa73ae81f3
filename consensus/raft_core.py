"""Raft, as a pure object: messages, proposals and ticks go in; messages and applied entries come out.

The driver calls, on one thread: `receive`, `propose`, `read` as often as it likes, then `settle`, and sends
what each of its steps yields. Nothing here needs a loop, a socket or a clock of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from consensus import follower, limits
from consensus.changes import MembershipChanges
from consensus.errors import MalformedMessage, NotLeader, ProposalTooLarge, TransferFailed
from consensus.messages import (
    Answer,
    Append,
    AppendResponse,
    Contacts,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteResponse,
    RequestVote,
    SnapshotResponse,
    TimeoutNow,
    VoteResponse,
)
from consensus.record import Kind
from consensus.stock import Node
from consensus.transfer import Transfer
from consensus.waiting import Completion

Outgoing: TypeAlias = list[tuple[str, list[Message]]]
"""Messages for each peer, in their order."""


class RaftCore(MembershipChanges):
    """One member of one Raft group.

    `bootstrap` is the membership of an empty log (election.py). `clock` gives monotonic seconds. Raises
    LogCorrupt when log and state machine do not belong together. Any exception of `settle` and of `receive`
    (but MalformedMessage) is final: the core then refuses everything with ReplicaStopped.
    """

    def match_index(self, peer_id: str) -> int | None:
        """The last entry that a member is known to hold; None unless this node leads."""
        if not self.leads:
            return None
        return self._log.synced_index if peer_id == self.node_id else self._followers[peer_id].match_index

    def caught_up(self, peer_id: str) -> bool:
        """Whether a member has nearly all of the log; False unless this node leads."""
        return self.leads and (peer_id == self.node_id or self._followers.caught_up(peer_id))

    def snapshotting(self, peer_id: str) -> bool:
        """Whether a member is being sent a snapshot; False unless this node leads."""
        return self.leads and peer_id in self._followers and self._followers[peer_id].stream is not None

    def last_heard_s(self, peer_id: str) -> float | None:
        """Seconds since a member last answered; None unless this node leads."""
        if not self.leads:
            return None
        return 0.0 if peer_id == self.node_id else self._clock() - self._answered_at[peer_id]

    # What the driver does.

    def propose(self, payload: bytes, completion: Completion) -> int:
        """Appends an entry and returns its index; `completion` gets what apply returns, or OutcomeUnknown.

        Raises NotLeader, ProposalTooLarge, TooManyProposals. Nothing is forwarded (F11): PySyncObj's request
        ids begin again with 1 after a restart, and a late answer would be taken for another command's.
        """
        self._check_leads()
        if self._transfer is not None:
            raise NotLeader(self._transfer.target_id)
        if self._gives_way:
            raise NotLeader(None)
        if len(payload) > limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX:
            raise ProposalTooLarge(len(payload), limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX)
        self.proposals.check_room(len(payload))
        index = self._log.append_new(self.term, Kind.REGULAR, payload)
        self.proposals.add(index, self.term, len(payload), completion)
        return index

    def transfer(self, target_id: str | None, completion: Completion) -> None:
        """Gives the leadership to `target_id`, or to the follower that has most of the log.

        Proposals are refused until that is done or, after an election timeout, given up. `completion` gets
        the id of the leader that follows, or TransferFailed. Raises NotLeader, TransferFailed.
        """
        self._check_leads()
        if self._transfer is not None:
            raise TransferFailed(f"the leadership is already being given to {self._transfer.target_id}")
        target_id = self._most_complete() if target_id is None else target_id
        if target_id not in self.membership.voter_ids - {self.node_id}:
            raise TransferFailed(f"{target_id!r} is no other voter of this cluster")
        if self._lease is not None:
            self._lease.give_up()
        deadline = self._clock() + self._timing.election_s_min
        self._transfer = Transfer(target_id, deadline, completion)

    def _most_complete(self) -> str:
        """The connected voter that is nearest to the end of the log, and was heard last."""
        connected = (self.membership.voter_ids - {self.node_id}) & self._connected
        if not connected:
            raise TransferFailed("no other voter is connected")
        heard_at = self._answered_at
        return max(sorted(connected), key=lambda each: (self._followers[each].match_index, heard_at[each]))

    def _advance_transfer(self) -> None:
        """Thesis section 3.10: once the target has the whole log, it is told to stand; repeated, as it may be
        lost. Everything is applied before, so that no proposer is left without an answer."""
        transfer, now = self._transfer, self._clock()
        if transfer is None:
            return
        if not self.leads and self.leader_id is not None:
            self._transfer = None
            transfer.done(self.leader_id)
        elif now >= transfer.deadline or transfer.target_id not in self._connected:
            self._transfer = None
            transfer.fail(f"{transfer.target_id} did not take over in time, or is gone")
        elif self.leads and now - transfer.asked_at >= self._timing.heartbeat_s:
            last_index = self._log.last_index
            if self._followers[transfer.target_id].match_index == last_index == self.applied_index:
                transfer.asked_at = now
                self._outbox.put(transfer.target_id, TimeoutNow(self.term))

    def read(self, completion: Completion) -> None:
        """Completes with None once a read of the state machine is linearizable, or fails with ReadFailed.

        Raises NotLeader, and ReadFailed when too many wait.
        """
        self._check_leads()
        self.reads.add(completion)

    def compact_to(self, index: int) -> None:
        """Have the log end its past behind `index` as soon as this member has applied a later payload,
        and those that the leader hears hold it. Remembered until then, not over a restart."""
        self._check_running()
        self._unwanted_index = max(self._unwanted_index, index)

    def peer_connected(self, peer_id: str) -> None:
        """Messages to `peer_id` have a way again; what was sent on the last one may be lost."""
        self._connected.add(peer_id)
        self._tell_contacts(peer_id)
        if not self.leads:
            self._ask_again()
        elif peer_id in self._followers:
            self._followers[peer_id].restart()

    def peer_disconnected(self, peer_id: str) -> None:
        self._connected.discard(peer_id)

    def receive(self, sender_id: str, message: Message) -> None:
        """Takes one message. Raises MalformedMessage, which leaves everything as it was.

        Whoever leads or stands has been chosen by the memberships of others, which may be newer; so requests
        are taken from servers that this one's membership does not name (thesis section 4.1). Their answers
        are not: they are what is counted here.
        """
        self._check_running()
        if isinstance(message, Contacts):
            self._on_contacts(message)
            return
        if isinstance(message, Answer) and not self._counts(sender_id):
            return
        node = Node(sender_id)
        # What may refuse a message comes before it can change anything.
        terms = follower.terms_of(message) if isinstance(message, Append) else []
        if isinstance(message, AppendResponse) and message.term == self.term:
            self._check_answer(message)
        if isinstance(message, InstallSnapshot):
            follower.check_chunk(message)
        if isinstance(message, SnapshotResponse) and message.term == self.term:
            self._check_snapshot_answer(message)
        if isinstance(message, RequestVote) and self._disregards(message):
            return
        try:
            if not isinstance(message, PreVote):  # Its term is not one that anybody is in.
                self._observe_term(message.term)
            match message:
                case PreVote():
                    self._on_pre_vote(node, message)
                case PreVoteResponse():
                    self._on_pre_vote_response(node, message)
                case Append():
                    self._on_append(node, message, terms)
                case AppendResponse():
                    self._on_append_response(node, message)
                case InstallSnapshot():
                    self._on_install_snapshot(node, message)
                case SnapshotResponse():
                    self._on_snapshot_response(node, message)
                case RequestVote():
                    self._on_request_vote(node, message)
                case VoteResponse():
                    self._on_vote_response(node, message)
                case TimeoutNow():
                    self._on_timeout_now(node, message)
        except BaseException:
            self.stop()
            raise

    def _check_answer(self, message: AppendResponse) -> None:
        if self.leads and message.log_index > self._log.last_index:
            raise MalformedMessage(f"an answer for entry {message.log_index}, which was never sent")

    def _check_snapshot_answer(self, message: SnapshotResponse) -> None:
        if self.leads and message.offset > self._followers.snapshot_size(message.digest):
            raise MalformedMessage(f"it keeps {message.offset} bytes, more than the snapshot has")

    def settle(self) -> Iterator[Outgoing]:
        """Stores what came in, then moves on; yields, in two or three steps, what may be sent from then on.

        Whoever drives the core sends each step before it asks for the next, and asks for all of them.

        1. When there is something to store: a leader's new entries, while its own disk is still to get them
           (thesis section 10.2.1): sending promises nothing. It counts itself towards the quorum in step 3,
           after its own sync (F7).
        2. Answers, once the term, vote and entries behind them are on disk (section 3.8). They do not wait
           for entries to be applied, so that a follower that is busy applying still acknowledges.
        3. What the tick brings: elections, commits, applied entries, and messages about them.

        In step 1 the driver may let the disk work on a thread: when there are `written_size_bytes`, it syncs
        the log store, calls `synced` and asks for step 2. Meanwhile it may propose and read, but messages
        wait: what they change could not be told from what is on its way to the disk.
        """
        self._check_running()
        try:
            ahead: Outgoing = []
            if self.leads and self._log.entries_staged and not self._log.hard_state_staged:
                self._SyncObj__sendAppendEntries()
                ahead = self._outbox.take()
            if self._log.write():
                yield ahead
                self._log.sync_written()
                if self._stopped:
                    return
            yield self._outbox.take()
            self._excuse_stall()
            self._tick()
            if self.leads:
                self._advance_reads()
                self._advance_members()
            self._advance_transfer()
            self._advance_departure()
            # A leader's entries that were proposed in step 1 wait for the next settlement's write.
            if self._log.hard_state_staged or not self._log.entries_staged:
                self._log.sync()
            yield self._outbox.take()
        except BaseException:
            self.stop()
            raise

    @property
    def written_size_bytes(self) -> int:
        """How much is on its way to the disk, in step 1 of a settlement."""
        return self._log.written_size_bytes

    def synced(self) -> None:
        """The log store was synced in step 1 of a settlement."""
        self._log.synced()

    @property
    def unsettled(self) -> bool:
        """Whether another settlement has something to do at once."""
        return self.applied_index < self.commit_index or self._log.staged

    def stop(self) -> None:
        """Ends this core; what waits is told that its outcome is unknown."""
        self._stopped = True
        self.proposals.fail("the node stopped")
        self.reads.fail("the node stopped")
        if self._transfer is not None:
            self._transfer.fail("the node stopped")
