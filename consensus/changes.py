"""Membership changes, one server at a time (Raft thesis chapter 4), on the leader that makes them.

What a membership is, and what a change makes of it, is in membership.py. Here is when one may be made, what a
leader does by itself, and how one that was removed goes.
"""

from __future__ import annotations

from consensus import membership
from consensus.config import Role
from consensus.errors import NotLeader
from consensus.membership import Member, Membership, MembershipRefused
from consensus.messages import Contacts, TimeoutNow
from consensus.raft_rules import RaftRules
from consensus.record import Kind
from consensus.waiting import Completion


class MembershipChanges(RaftRules):
    """A change that somebody asks for completes with None once it is committed, or with OutcomeUnknown."""

    _contacts: Contacts = Contacts(0, Membership())
    _departs_by: float | None = None

    def add_learner(self, member: Member, completion: Completion) -> None:
        """Raises NotLeader and MembershipRefused; ValueError for a member that cannot be encoded."""
        self._check_may_change()
        self._change(self.membership.with_learner(member), completion)

    def promote(self, member_id: str, completion: Completion) -> None:
        """Gives a learner that has caught up its vote. Raises NotLeader and MembershipRefused."""
        self._check_may_change()
        promoted = self.membership.promoted(member_id)
        if not self.may_be_promoted(member_id):
            raise MembershipRefused("not-caught-up", f"{member_id} does not have nearly all of the log yet")
        self._check_can_commit(promoted)
        self._change(promoted, completion)

    def remove(self, member_id: str, completion: Completion) -> None:
        """Also of this node itself: it then leads until that is committed, and takes no more proposals.

        Raises NotLeader and MembershipRefused.
        """
        self._check_may_change()
        removed = self.membership.removed(member_id)
        self._check_can_commit(removed)
        self._change(removed, completion)

    def may_be_promoted(self, member_id: str) -> bool:
        """Whether it has nearly all of the log, and it is known with which disk it would vote."""
        return (
            member_id in self._followers
            and bool(self.membership[member_id].incarnation)
            and self._followers.caught_up(member_id)
        )

    def _check_may_change(self) -> None:
        """F9: two changes made at once, or one made by a leader that does not know yet whether that of its
        predecessor is committed, can lead to majorities that do not meet (thesis section 4.1; Ongaro's
        correction of 2015, https://groups.google.com/g/raft-dev/c/t4xj6dJTP6E)."""
        self._check_leads()
        if not self.membership_committed:
            raise MembershipRefused("change-in-progress", "the last change is not committed yet")
        if self.commit_index < self._no_op_index or self._gives_way:
            raise MembershipRefused("not-ready", "the leader has just been elected, or gives its place away")

    def _counted_on(self) -> set[str]:
        """Whose acknowledgement may be hoped for: who is connected, has answered lately, and has its disk."""
        since = self._clock() - self._timing.leader_fallback_s
        answering = {each for each in self._followers if self._followers[each].heard_at > since}
        return {each for each in answering & self._connected if self._counts(each)} | {self.node_id}

    def _check_can_commit(self, changed: Membership) -> None:
        """A membership counts as soon as it is in the log (section 4.1), so it is its own quorum that commits
        it. Without one, the cluster stands still until somebody comes back; for ever, if that one has lost
        its disk, because the change that would let it in again cannot be committed either. etcd refuses the
        same (--strict-reconfig-check)."""
        counted_on = self._counted_on()
        if not changed.has_quorum(counted_on):
            away = ", ".join(sorted(changed.voter_ids - counted_on))
            raise MembershipRefused(
                "quorum-at-risk",
                f"of the {len(changed.voters)} voters there would be, {changed.quorum} are needed, and these "
                f"cannot be counted on now: {away}",
            )

    @property
    def _gives_way(self) -> bool:
        """Whether this leader appends nothing more: it gives its place away, or is no member any more."""
        return self._transfer is not None or self.membership.get(self.node_id) is None

    def _check_leads(self) -> None:
        self._check_running()
        if not self.leads:
            raise NotLeader(self.leader_id)

    def _change(self, changed: Membership, completion: Completion | None) -> None:
        """Appends the entry that makes `changed` the membership from now on, here at once (section 4.1)."""
        payload = membership.encode(changed)
        membership.decode(payload)  # Nothing that the others would refuse.
        if completion is not None:
            self.proposals.check_room(len(payload))
        before = self.membership
        index = self._log.append_new(self.term, Kind.MEMBERSHIP, payload)
        if completion is not None:
            self.proposals.add(index, self.term, len(payload), completion)
        for member in changed.members:
            former = before.get(member.id)
            if former is None or member.id not in self._followers:
                continue
            # Another server, or one that has forgotten: what was held, it does not hold.
            if former.incarnation != member.incarnation or (former.voter and not member.voter):
                self._followers.add(member.id)
        self._replicate_to_members()

    def _advance_members(self) -> None:
        """What a leader changes unasked: whose disk is whose, and the vote of a server that has it back."""
        if not self.membership_committed or self.commit_index < self._no_op_index or self._gives_way:
            return
        for member in self.membership.members:
            if member.id == self.node_id:
                if member.returning and self._return_own_vote():
                    return
                continue
            found = self._incarnations.get(member.id, b"")
            known = bool(member.incarnation) or not member.voter
            if found and found != member.incarnation and known:
                self._change(self.membership.with_incarnation(member.id, found), None)
                return
            if self._followers.has_forgotten(member.id) and self._take_vote(member):
                return
            if member.returning and self.may_be_promoted(member.id) and self._return_vote(member.id):
                return

    def _return_own_vote(self) -> bool:
        """Whoever loses its vote may be elected by those who do not know yet that this is committed. It then
        has all that was ever committed (leader completeness, section 3.6.3), a term in which the others have
        elected it, and nobody else who would give it its vote back."""
        own = self.membership[self.node_id]
        return own.incarnation == self.incarnation and self._return_vote(own.id)

    def _return_vote(self, member_id: str) -> bool:
        """False while those who would then be counted could not commit that."""
        promoted = self.membership.promoted(member_id)
        if not promoted.has_quorum(self._counted_on()):
            return False
        self._change(promoted, None)
        return True

    def _take_vote(self, member: Member) -> bool:
        """A disk that was restored from an old copy is like one that was lost (membership.py), but goes
        by the same incarnation. Who led when it promised what it has forgotten can tell. False while the
        others could not commit that."""
        if not member.voter:
            self._followers.add(member.id)
            return False
        changed = self.membership.without_vote(member.id)
        if not changed.has_quorum(self._counted_on() - {member.id}):
            return False
        self._change(changed, None)
        return True

    def _advance_departure(self) -> None:
        """Thesis section 4.2.2: a leader that is no member any more steps down when that is committed.

        It hands over to a voter that has the whole log, so that nobody waits for an election timeout.
        """
        gone = self.leads and self.membership_committed and self.membership.get(self.node_id) is None
        if not gone:
            self._departs_by = None
            return
        if self._lease is not None:
            self._lease.give_up()
        now = self._clock()
        if self._departs_by is None:
            self._departs_by = now + self._timing.election_s_min
        target_id = self._successor()
        if target_id is not None:
            self._outbox.put(target_id, TimeoutNow(self.term))
        if target_id is not None or now >= self._departs_by:
            self._departs_by = None
            self._SyncObj__setState(Role.FOLLOWER)
            self._SyncObj__raftLeader = None

    def _successor(self) -> str | None:
        """A voter that can be reached and has everything, once it is all applied here."""
        last_index = self._log.last_index
        if self.applied_index < last_index:
            return None
        voters = sorted(self.membership.voter_ids & self._connected)
        return next((each for each in voters if self._followers[each].match_index == last_index), None)

    # Who else may be reached where.

    @property
    def departed(self) -> bool:
        """Whether this node has been removed, for certain, and has handed over what it led."""
        return not self.leads and self.node_id in self.committed_membership.retired

    @property
    def known_memberships(self) -> tuple[Membership, ...]:
        """Those whose members may be let in and dialled: the latest, the committed one, and the newest that
        another member has told of when the log is behind it.

        The last says whom to listen to and where to find them, and nothing else: a member that was away while
        others were replaced must let the new ones in before they can bring it the entries that say so.
        """
        latest, committed = self.membership, self.committed_membership
        known = (latest,) if committed is latest else (committed, latest)
        return (*known, self._contacts.membership) if self._contacts.index > self.membership_index else known

    def _tell_contacts(self, peer_id: str) -> None:
        committed = self._log.memberships.at(self.commit_index)
        if committed is not None:
            self._outbox.put(peer_id, Contacts(committed.index, committed.membership))

    def _on_contacts(self, message: Contacts) -> None:
        if message.index > self._contacts.index:
            self._contacts = message
