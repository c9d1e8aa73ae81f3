"""Membership changes and lost disks with one rule broken (changes.py, election.py, membership.py)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.changes import MembershipChanges
from consensus.election import Elections
from consensus.leader import Followers
from consensus.membership import Membership
from consensus.membership_history import MembershipHistory


def two_changes_at_once(patch: pytest.MonkeyPatch) -> None:
    """F9, thesis section 4.1: one change begins before the last one is committed."""
    patch.setattr(Elections, "membership_committed", property(lambda self: True))


def change_before_the_no_op(patch: pytest.MonkeyPatch) -> None:
    """F9, Ongaro's correction of 2015: a new leader does not know yet what its predecessor changed."""
    check, advance = MembershipChanges._check_may_change, MembershipChanges._advance_members

    def hasty(self: Any, act: Any) -> None:
        no_op_index, self._no_op_index = self._no_op_index, 0
        try:
            act(self)
        finally:
            self._no_op_index = no_op_index

    patch.setattr(MembershipChanges, "_check_may_change", lambda self: hasty(self, check))
    patch.setattr(MembershipChanges, "_advance_members", lambda self: hasty(self, advance))


def membership_used_when_committed(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.1: a server uses the latest membership in its log, committed or not."""
    patch.setattr(Elections, "membership", property(lambda self: self.committed_membership))


def membership_not_taken_back(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.1: a server goes back to the membership before when the entry is truncated."""
    patch.setattr(MembershipHistory, "truncate_from", lambda self, index: None)


def learners_are_counted(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.2.1: who has no vote yet counts as if it had one."""
    patch.setattr(Membership, "voters", property(lambda self: self.members))


def ids_are_used_again(patch: pytest.MonkeyPatch) -> None:
    """A server that was removed may come back under its id, with what it knows from before."""
    removed = Membership.removed

    def forget(self: Membership, member_id: str) -> Membership:
        return msgspec.structs.replace(removed(self, member_id), retired=self.retired)

    patch.setattr(Membership, "removed", forget)


def two_votes_in_one_change(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.1: all learners get their votes at once."""

    def promoted(self: Membership, member_id: str) -> Membership:
        return self._with(
            [msgspec.structs.replace(each, voter=True, returning=False) for each in self.members]
        )

    def removed(self: Membership, member_id: str) -> Membership:
        gone = {member_id, *(each.id for each in self.voters[:1])}
        return self._with([each for each in self.members if each.id not in gone], (*self.retired, *gone))

    patch.setattr(Membership, "promoted", promoted)
    patch.setattr(Membership, "removed", removed)


def lost_disk_keeps_its_vote(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes with another disk is a voter at once."""

    def with_incarnation(self: Membership, member_id: str, incarnation: bytes) -> Membership:
        return self._replacing(msgspec.structs.replace(self[member_id], incarnation=incarnation))

    patch.setattr(Membership, "with_incarnation", with_incarnation)


def incarnations_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """What a server with an empty disk grants and acknowledges counts as the former one's."""
    patch.setattr(Elections, "_counts", lambda self, peer_id: True)


def disk_lost_and_still_a_voter(patch: pytest.MonkeyPatch) -> None:
    """A server that comes with another disk stands and counts itself."""

    def is_voter_of(self: Elections, membership: Membership) -> bool:
        own = membership.get(self.node_id)
        return own is not None and own.voter

    patch.setattr(Elections, "_is_voter_of", is_voter_of)


def first_leader_by_majority(patch: pytest.MonkeyPatch) -> None:
    """Before a log has a membership, a majority is enough, as if nobody could have lost its disk."""

    def has_won(self: Elections, granted: set[str]) -> bool:
        return self.membership.has_quorum(granted | {self.node_id})

    patch.setattr(Elections, "_has_won", has_won)


def match_of_the_former_disk(patch: pytest.MonkeyPatch) -> None:
    """What the former server of that id held, the one with the new disk is believed to hold."""
    add = Followers.add

    def keep(self: Followers, peer_id: str) -> None:
        if peer_id not in self:
            add(self, peer_id)

    patch.setattr(Followers, "add", keep)


def promoted_unready(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.2.1: a vote for a server that does not have the log."""
    patch.setattr(MembershipChanges, "may_be_promoted", lambda self, member_id: True)


def removed_leader_stays(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 4.2.2: a leader that is no member any more leads on."""
    patch.setattr(MembershipChanges, "_advance_departure", lambda self: None)


def transfer_to_a_learner(patch: pytest.MonkeyPatch) -> None:
    """Only voters can lead."""
    patch.setattr(Membership, "voter_ids", property(lambda self: self.ids))


def change_that_nobody_could_commit(patch: pytest.MonkeyPatch) -> None:
    """A membership is proposed whose voters are not there."""
    patch.setattr(MembershipChanges, "_check_can_commit", lambda self, changed: None)


def forgotten_and_still_a_voter(patch: pytest.MonkeyPatch) -> None:
    """A disk that was restored from an old copy counts as the one that it was."""
    patch.setattr(Followers, "has_forgotten", lambda self, peer_id: False)
