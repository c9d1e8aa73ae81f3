"""Elections: when a member stands, whom it votes for, and how long it trusts a leader it does not hear.

"Thesis" is Diego Ongaro, "Consensus: Bridging Theory and Practice", 2014. How overriding a private method of
PySyncObj works is told in stock.py.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.config import ReadLease, Role, Timing
from consensus.lease import microseconds
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import PreVote, PreVoteResponse, RequestVote, TimeoutNow, VoteResponse
from consensus.stock import Node, Outbox, StockEngine, bind_tick, settings, start

logger = logging.getLogger(__name__)

_ROLES = tuple(Role)


@dataclass(slots=True)
class _Ballot:
    """What this member asks of the others for `term`, and who has granted it.

    With `pre_vote` it only asks whether it could win. `transfer` says that the leader told it to stand.
    """

    term: int
    pre_vote: bool
    transfer: bool = False
    asked_at: float = -math.inf
    granted: set[str] = field(default_factory=set)


class Elections(StockEngine):
    """One member's term, vote, role and leader, and who the others are.

    `bootstrap` is the membership of an empty log, empty for a server that waits to be added.

    PySyncObj's own election timer would raise the term before anybody is asked, so it is held back: its
    timeout is infinite, and its deadline is set to the past only once this member may really stand. The
    stock tick then makes it a candidate of the next term, with its own vote stored.
    """

    def __init__(
        self,
        node_id: str,
        bootstrap: Membership,
        *,
        log: DurableLog,
        timing: Timing,
        clock: Callable[[], float],
        rng: random.Random,
        read_lease: ReadLease | None = None,
    ) -> None:
        self.node_id = node_id
        self._read_lease = read_lease
        self._log = log
        self._timing = timing
        self._clock = clock
        self._rng = rng
        self._bootstrap = bootstrap
        self._connected: set[str] = set()
        self._incarnations: dict[str, bytes] = {}
        self._reported: dict[str, bytes] = {}
        self._answered_at: dict[str, float] = {}
        self._outbox = Outbox()
        self._ballot: _Ballot | None = None
        self._heard_at = -math.inf
        self._promise_us = 0 if read_lease is None else microseconds(timing.election_s_min)
        # Before a restart, a leader may have been heard up to this moment, and answered with this promise.
        former_us = log.identity.promise_us
        self._bound_until = clock() + former_us / 1e6 if former_us else None
        log.identity.promise(max(former_us, self._promise_us))
        self._election_deadline = math.inf
        conf = settings(timing, self._on_role_changed)
        start(self, Node(node_id), conf=conf, outbox=self._outbox, log=log, clock=clock)
        log.identity.draw(rng.randbytes)
        log.sync()  # What it says in its greetings is on disk before it says so.
        self._stock_tick = bind_tick(self, clock)
        self._settled_at = clock()
        # A member that starts need not wait: if there is a leader, nobody grants it a pre-vote.
        self._hasten_election()

    @property
    def role(self) -> Role:
        return _ROLES[self._SyncObj__raftState]

    @property
    def leads(self) -> bool:
        return self._SyncObj__raftState == Role.LEADER

    @property
    def term(self) -> int:
        return self._SyncObj__raftCurrentTerm

    @property
    def leader_id(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else leader.id

    # Who the others are.

    @property
    def membership(self) -> Membership:
        """The latest one in the log, committed or not (thesis section 4.1)."""
        latest = self._log.memberships.latest
        return self._bootstrap if latest is None else latest.membership

    @property
    def membership_index(self) -> int:
        """Index of the entry that brought it, 0 for the bootstrap's."""
        latest = self._log.memberships.latest
        return 0 if latest is None else latest.index

    @property
    def membership_committed(self) -> bool:
        return self.membership_index <= self._SyncObj__raftCommitIndex

    @property
    def committed_membership(self) -> Membership:
        """The latest one that is known to be committed."""
        committed = self._log.memberships.at(self._SyncObj__raftCommitIndex)
        return self._bootstrap if committed is None else committed.membership

    @property
    def incarnation(self) -> bytes:
        """Which server the disk makes of this node (membership.py)."""
        return self._log.identity.incarnation

    def is_connected(self, peer_id: str) -> bool:
        return peer_id in self._connected

    def peer_greeted(self, peer_id: str, incarnation: bytes) -> None:
        """`peer_id` has opened a connection, and says which server its disk makes of it; what it says on an
        earlier one is not heard any more."""
        self._incarnations[peer_id] = incarnation

    def _counts(self, peer_id: str) -> bool:
        """Whether what `peer_id` grants and acknowledges is said by the server that the membership names, and
        not by one with its id and another disk, which has forgotten what the former promised."""
        member = self.membership.get(peer_id)
        if member is None or not member.incarnation:
            return True
        found = self._incarnations.get(peer_id, b"")
        if found == member.incarnation:
            return True
        if found and self._reported.get(peer_id) != found:
            self._reported[peer_id] = found
            logger.warning("%s has another disk than the one that is a member; it is not counted", peer_id)
        return False

    def _is_voter_of(self, membership: Membership) -> bool:
        own = membership.get(self.node_id)
        return own is not None and own.voter and own.incarnation in (b"", self.incarnation)

    def _may_stand(self) -> bool:
        """Voters only. One that was removed stands until that is committed: it may be the only one whose log
        is new enough (thesis section 4.2.2 and figure 4.6)."""
        return self._is_voter_of(self.membership) or (
            not self.membership_committed and self._is_voter_of(self.committed_membership)
        )

    def _has_won(self, granted: set[str]) -> bool:
        """A majority of the voters; this member counts itself if it is one (thesis sections 3.4 and 4.2.2).

        Without a membership entry in the log: all of them. Nobody knows then whose disk is whose, and a
        member that lost its disk looks like one that never had any; so whoever still has the log must agree.
        """
        if self._is_voter_of(self.membership):
            granted = granted | {self.node_id}
        if self._log.memberships.latest is None:
            return bool(granted) and self.membership.voter_ids <= granted
        return self.membership.has_quorum(granted)

    # Terms and roles.

    def _observe_term(self, term: int) -> None:
        """Thesis section 3.3: whoever sees a higher term, in any message, adopts it and follows."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(Role.FOLLOWER)
            self._SyncObj__raftLeader = None
            if self._ballot is not None:
                self._withdraw()
                self._hasten_election()

    def _on_role_changed(self, old_role: int, new_role: int) -> None:
        if old_role == Role.LEADER:
            self._reset_election_timer()

    def _follow(self, leader: Node) -> None:
        """The leader of this term has spoken."""
        self._SyncObj__setState(Role.FOLLOWER)
        self._SyncObj__raftLeader = leader
        self._heard_at = self._clock()
        self._withdraw()
        self._reset_election_timer()

    def _trusts_leader(self) -> bool:
        """Whether this member leads, or has heard from a leader within the minimum election timeout."""
        heard_lately = self._clock() - self._heard_at < self._timing.election_s_min
        keeps = self._read_lease is not None or self.leader_id is not None
        return self.leads or self._bound_until is not None or (heard_lately and keeps)

    def _promised(self) -> bool:
        """Whether a leader may hold a lease because this member has answered it (lease.py)."""
        bound = self._read_lease is not None or self._bound_until is not None
        return bound and self._trusts_leader()

    def peer_lost(self, peer_id: str) -> None:
        """The connection on which `peer_id` sends was closed: most likely its process has ended.

        A leader's followers then need not wait until its silence is long enough. When it lives after all,
        those who still hear it grant nothing, and its next message ends the matter.
        """
        if self.leader_id == peer_id:
            self._SyncObj__raftLeader = None
            self._hasten_election()

    # The timer.

    def _SyncObj__generateRaftTimeout(self) -> float:
        return math.inf

    def _SyncObj__connectedToAnyone(self) -> bool:
        """Stock asks this before it stands; a majority has already answered this member then."""
        return True

    def _reset_election_timer(self) -> None:
        """Randomized election timeout (thesis section 3.4), from the injected generator."""
        timeout_s = self._rng.uniform(self._timing.election_s_min, self._timing.election_s_max)
        self._election_deadline = self._clock() + timeout_s

    def _hasten_election(self) -> None:
        """After a short random time, so that members that lost the same leader do not meet in step.

        Far less than an election timeout will do, because pre-vote asks before it disturbs.
        """
        delay_s = self._rng.uniform(self._timing.hastened_s_min, self._timing.hastened_s_max)
        self._election_deadline = min(self._election_deadline, self._clock() + delay_s)

    def _excuse_stall(self) -> None:
        """A node that did not run (a slow sync, a stopped process) was deaf; its peers were not silent.

        Before it deposes a leader, or itself, for silence, it gets a heartbeat's time to read what waits
        for it. Silence is judged by timers only to make progress, never for safety (thesis section 3.9).
        """
        now = self._clock()
        stalled_s, self._settled_at = now - self._settled_at, now
        if stalled_s <= self._timing.heartbeat_s:
            return
        grace_s = self._timing.heartbeat_s
        self._election_deadline = max(self._election_deadline, now + grace_s)
        heard_at = now - self._timing.leader_fallback_s + grace_s
        for peer_id, answered_at in self._answered_at.items():
            self._answered_at[peer_id] = max(answered_at, heard_at)

    # Standing for election.

    def _tick(self) -> None:
        """The election timer, then the stock tick, then what a candidate has to ask."""
        if self._bound_until is not None and self._clock() >= self._bound_until:
            self._bound_until = None
            self._log.identity.promise(self._promise_us)
        if not self._promised() and not self.leads and self._clock() >= self._election_deadline:
            if self._may_stand():
                self._begin_pre_vote()
            else:
                self._SyncObj__raftLeader = None
                self._reset_election_timer()
        self._stock_tick()
        if self._ballot is not None and not self.leads:
            self._campaign(self._ballot)

    def _begin_pre_vote(self) -> None:
        """Pre-vote (thesis section 9.6): before it raises its term, a member asks whether it could win.

        So one that was cut off does not depose a healthy leader on its return. It asks on until a majority
        grants it, or a leader or a later term ends it: hence no deadline.
        """
        self._SyncObj__setState(Role.FOLLOWER)
        self._SyncObj__raftLeader = None
        self._election_deadline = math.inf
        self._ballot = _Ballot(self.term + 1, pre_vote=True)
        self._count(self._ballot)

    def _stand(self, *, transfer: bool) -> None:
        """The next stock tick makes this member a candidate."""
        self._ballot = _Ballot(self.term + 1, pre_vote=False, transfer=transfer)
        self._SyncObj__raftElectionDeadline = -math.inf
        self._reset_election_timer()

    def _withdraw(self) -> None:
        self._ballot = None
        self._SyncObj__raftElectionDeadline = math.inf

    def _campaign(self, ballot: _Ballot) -> None:
        """Thesis section 3.3: requests are repeated until they are answered."""
        if self._clock() - ballot.asked_at >= self._timing.heartbeat_s:
            ballot.asked_at = self._clock()
            for voter in self.membership.voters:
                if voter.id not in ballot.granted and voter.id in self._connected:
                    self._ask(ballot, voter.id)

    def _ask_again(self) -> None:
        """With the next tick, whoever has not granted this member's ballot."""
        if self._ballot is not None:
            self._ballot.asked_at = -math.inf

    def _ask(self, ballot: _Ballot, peer_id: str) -> None:
        last_index, last_term = self._log.last_index, self._log.last_term
        if ballot.pre_vote:
            self._outbox.put(peer_id, PreVote(ballot.term, last_index, last_term))
        else:
            self._outbox.put(peer_id, RequestVote(ballot.term, last_index, last_term, ballot.transfer))

    def _count(self, ballot: _Ballot) -> None:
        """Stock counts answers; a vote that arrives twice must count once (thesis section 3.4)."""
        if not self._has_won(ballot.granted):
            return
        if ballot.pre_vote:
            self._stand(transfer=False)
        else:
            self._become_leader()

    def _SyncObj__onBecomeLeader(self) -> None:
        """Stock calls this when it makes this member a candidate, because it knows of nobody else's vote."""
        if self._ballot is not None:
            self._count(self._ballot)

    def _become_leader(self) -> None:
        raise NotImplementedError

    def _on_pre_vote_response(self, node: Node, message: PreVoteResponse) -> None:
        ballot = self._ballot
        if ballot is not None and ballot.pre_vote and message.granted and message.asked_term == ballot.term:
            ballot.granted.add(node.id)
            self._count(ballot)

    def _on_vote_response(self, node: Node, message: VoteResponse) -> None:
        ballot = self._ballot
        if ballot is None or self.role is not Role.CANDIDATE or message.term != self.term:
            return
        if self._log.memberships.latest is None and not self._incarnations.get(node.id):
            return  # The first membership entry will say which disk has voted; so the vote has to.
        if message.granted:
            ballot.granted.add(node.id)
            self._count(ballot)
        else:
            # Most likely the vote is split; the next attempt need not wait for a whole timeout.
            self._hasten_election()

    def _on_timeout_now(self, node: Node, message: TimeoutNow) -> None:
        """Leadership transfer (thesis section 3.10): the leader wants this member to stand, at once."""
        if message.term == self.term and self.leader_id == node.id and self._may_stand():
            self._stand(transfer=True)

    # Voting.

    def _is_up_to_date(self, message: PreVote | RequestVote) -> bool:
        """Thesis section 3.6.1: no vote for a log that lacks what may be committed."""
        return (message.last_term, message.last_index) >= (self._log.last_term, self._log.last_index)

    def _disregards(self, message: RequestVote) -> bool:
        """Thesis section 4.2.3: whoever hears a leader does not let a candidate raise its term, unless that
        leader itself gives its place away."""
        return message.term > self.term and not message.transfer and self._trusts_leader()

    def _on_pre_vote(self, node: Node, message: PreVote) -> None:
        """Thesis section 9.6. Nothing changes here, and nothing is promised: a pre-vote binds nobody."""
        granted = message.term > self.term and not self._trusts_leader() and self._is_up_to_date(message)
        self._outbox.put(node.id, PreVoteResponse(self.term, message.term, granted))

    def _on_request_vote(self, node: Node, message: RequestVote) -> None:
        """Thesis sections 3.4 and 3.6.1. Stock keeps silent once it has voted, so that a candidate whose
        answer was lost never gets it; but a vote repeated for the same candidate is the same vote."""
        granted = (
            message.term == self.term
            and (message.transfer or not self._trusts_leader())
            and self._SyncObj__votedForNodeId in (None, node.id)
            and self._is_up_to_date(message)
        )
        if granted:
            self._SyncObj__setCurrentTerm(self.term, node.id)
            self._withdraw()
            self._reset_election_timer()
        self._outbox.put(node.id, VoteResponse(self.term, granted))
