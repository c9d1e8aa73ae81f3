"""Raft, as a pure object: messages, proposals and ticks go in; messages and applied entries come out.

The driver calls, on one thread: `receive`, `propose`, `read` as often as it likes, then `settle`, then sends
what `settle` returned. Nothing here needs a loop, a socket or a clock of its own.
"""

from __future__ import annotations

from consensus import follower, limits
from consensus.config import Role
from consensus.errors import NotLeader, ProposalTooLarge, ReplicaStopped
from consensus.messages import Append, AppendResponse, Message, RequestVote, VoteResponse
from consensus.raft_rules import RaftRules
from consensus.record import Kind
from consensus.waiting import Completion


class RaftCore(RaftRules):
    """One member of one Raft group.

    `member_ids` are all voters. `clock` gives monotonic seconds. Raises LogCorrupt when log and state machine
    do not belong together. Any exception of `settle` and of `receive` (but MalformedMessage) is final: the
    core then refuses everything with ReplicaStopped.
    """

    def is_connected(self, peer_id: str) -> bool:
        return self.isNodeConnected(self._nodes[peer_id])

    def match_index(self, peer_id: str) -> int | None:
        """The last entry `peer_id` is known to hold; None unless this node leads."""
        if not self.leads:
            return None
        return self._log.synced_index if peer_id == self.node_id else self._followers[peer_id].match_index

    # What the driver does.

    def propose(self, payload: bytes, completion: Completion) -> int:
        """Appends an entry and returns its index; `completion` gets what apply returns, or OutcomeUnknown.

        Raises NotLeader, ProposalTooLarge, TooManyProposals. Nothing is forwarded (F11): PySyncObj's request
        ids begin again with 1 after a restart, and a late answer would be taken for another command's.
        """
        self._check_running()
        if not self.leads:
            raise NotLeader(self.leader_id)
        if len(payload) > limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX:
            raise ProposalTooLarge(len(payload), limits.ENTRY_PAYLOAD_SIZE_BYTES_MAX)
        self.proposals.check_room(len(payload))
        index = self._log.append_new(self.term, Kind.REGULAR, payload)
        self.proposals.add(index, self.term, len(payload), completion)
        return index

    def read(self, completion: Completion) -> None:
        """Completes with None once a read of the state machine is linearizable, or fails with ReadFailed.

        Raises NotLeader, and ReadFailed when too many wait.
        """
        self._check_running()
        if not self.leads:
            raise NotLeader(self.leader_id)
        self.reads.add(completion)

    def peer_connected(self, peer_id: str) -> None:
        """Messages to `peer_id` have a way again; what was sent on the last one may be lost."""
        node = self._nodes[peer_id]
        self._SyncObj__onNodeConnected(node)
        if self.leads:
            self._followers[peer_id].restart()
        elif self.role is Role.CANDIDATE:
            self._ask_for_vote(peer_id)

    def peer_disconnected(self, peer_id: str) -> None:
        self._SyncObj__onNodeDisconnected(self._nodes[peer_id])

    def receive(self, sender_id: str, message: Message) -> None:
        """Takes one message. Raises MalformedMessage, which leaves everything as it was."""
        self._check_running()
        node = self._nodes.get(sender_id)
        if node is None:
            return  # Not a member: neither its votes nor its terms count.
        # What may refuse a message comes before it can change anything.
        terms = follower.terms_of(message) if isinstance(message, Append) else []
        if isinstance(message, AppendResponse) and message.term == self.term:
            self._check_answer(message)
        try:
            self._observe_term(message.term)
            match message:
                case Append():
                    self._on_append(node, message, terms)
                case AppendResponse():
                    self._on_append_response(node, message)
                case RequestVote():
                    self._on_request_vote(node, message)
                case VoteResponse():
                    self._on_vote_response(node, message)
        except BaseException:
            self.stop()
            raise

    def settle(self) -> list[tuple[str, list[Message]]]:
        """Stores what came in, moves on, stores what that brought; returns what may be sent now.

        Thesis section 3.8: nothing leaves before the term, vote and entries behind it are on disk. The
        leader's own copy counts towards the quorum because the tick comes after the sync (F7).
        """
        self._check_running()
        try:
            self._log.sync()
            self._excuse_stall()
            self._stock_tick()
            if self.leads:
                self._advance_reads()
            elif self.role is Role.CANDIDATE:
                self._campaign()
            self._log.sync()
        except BaseException:
            self.stop()
            raise
        return self._outbox.take()

    def stop(self) -> None:
        """Ends this core; what waits is told that its outcome is unknown."""
        self._stopped = True
        self.proposals.fail("the node stopped")
        self.reads.fail("the node stopped")

    def _check_running(self) -> None:
        if self._stopped:
            raise ReplicaStopped("this node has stopped")
