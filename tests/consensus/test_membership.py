"""Memberships as values: what a change makes of one, and what is refused."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consensus import limits, membership
from consensus.config import MemberStatus
from consensus.membership import Member, Membership, MembershipInvalid, MembershipRefused
from consensus.zones import zone_loss, zone_majorities
from tests.consensus.cores import members

IDS = [f"n{number}" for number in range(6)]
ids = st.sampled_from(IDS)
incarnations = st.sampled_from([bytes([number]) * 16 for number in range(1, 4)])


def refusal(change: object, *arguments: object) -> str:
    with pytest.raises(MembershipRefused) as refused:
        change(*arguments)  # type: ignore[operator]
    return refused.value.reason


def majorities(of: Membership) -> list[frozenset[str]]:
    return [
        frozenset(group)
        for size in range(len(of.voters) + 1)
        for group in itertools.combinations(sorted(of.voter_ids), size)
        if of.has_quorum(set(group))
    ]


class Changes(RuleBasedStateMachine):
    """Any sequence of changes: majorities before and after each always meet (thesis section 4.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = members(3, known=True)
        self.before = self.now

    def change(self, name: str, *arguments: object) -> None:
        try:
            after = getattr(self.now, name)(*arguments)
        except MembershipRefused:
            return
        self.before, self.now = self.now, after

    @rule(id=ids, port=st.integers(0, 9))
    def add(self, id: str, port: int) -> None:
        self.change("with_learner", Member(id, "z", "h", port))

    @rule(id=ids)
    def promote(self, id: str) -> None:
        self.change("promoted", id)

    @rule(id=ids)
    def remove(self, id: str) -> None:
        self.change("removed", id)

    @rule(id=ids, incarnation=incarnations)
    def lose_disk(self, id: str, incarnation: bytes) -> None:
        self.change("with_incarnation", id, incarnation)

    @invariant()
    def every_two_majorities_meet(self) -> None:
        """As servers: an id whose incarnation was lost is another one, and so never has a vote at once."""
        assert all(one & other for one in majorities(self.before) for other in majorities(self.now))
        kept = {each.id for each in self.before.voters} & {each.id for each in self.now.voters}
        for each in kept:
            former = self.before[each].incarnation
            assert former in (b"", self.now[each].incarnation)

    @invariant()
    def it_is_one_that_every_server_takes(self) -> None:
        assert membership.decode(membership.encode(self.now)) == self.now
        assert not self.now.ids & set(self.now.retired)
        addresses = [(each.host, each.port) for each in self.now.members]
        assert len(set(addresses)) == len(addresses)

    @invariant()
    def no_id_is_forgotten(self) -> None:
        assert self.before.ids | set(self.before.retired) <= self.now.ids | set(self.now.retired)


TestChanges = Changes.TestCase


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_a_quorum_reaches_what_a_majority_has(values: list[int]) -> None:
    cluster = members(len(values))
    reached = cluster.reached_by_quorum(lambda each: values[int(each[1:])])
    assert sum(value >= reached for value in values) > len(values) / 2
    assert sum(value > reached for value in values) <= len(values) / 2


@given(st.binary(max_size=200))
def test_bytes_that_are_no_membership_are_refused(payload: bytes) -> None:
    try:
        decoded = membership.decode(payload)
    except MembershipInvalid:
        return
    assert membership.decode(membership.encode(decoded)) == decoded


@pytest.mark.parametrize(
    "wrong",
    [
        Membership(),
        Membership((Member("a", "", "h", 1, voter=False),)),
        Membership((Member("b", "", "h", 1), Member("a", "", "h", 2))),
        Membership((Member("a", "", "h", 1), Member("a", "", "h", 2))),
        Membership((Member("a", "", "h", 1),), ("a",)),
        Membership((Member("a", "", "h", 1, incarnation=b"short"),)),
        Membership((Member("", "", "h", 1),)),
        Membership((Member("a", "", "h" * 256, 1),)),
        Membership((Member("a", "", "h", 70_000),)),
    ],
)
def test_what_no_change_leads_to_is_refused(wrong: Membership) -> None:
    with pytest.raises(MembershipInvalid):
        membership.decode(membership.encode(wrong))


def test_why_a_change_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = members(3, known=True)
    learner = Member("n9", "z", "h9", 1, "h9:2")
    assert refusal(cluster.with_learner, Member("n1", "z", "elsewhere", 1)) == "member-exists"
    assert refusal(cluster.with_learner, Member("n9", "z", "h", 7501)) == "address-in-use"
    assert (
        refusal(cluster.with_learner(learner).with_learner, Member("n8", "z", "x", 1, "h9:2"))
        == "address-in-use"
    )
    assert refusal(cluster.removed("n1").with_learner, Member("n1", "z", "h1", 1)) == "member-retired"
    assert refusal(cluster.promoted, "n1") == "member-exists"
    for change in (cluster.promoted, cluster.removed):
        assert refusal(change, "n7") == "member-unknown"
    alone = cluster.removed("n1").removed("n2")
    assert refusal(alone.removed, "n0") == "last-voter"
    assert refusal(alone.with_incarnation, "n0", b"x" * 16) == "last-voter"
    assert alone.quorum == 1
    monkeypatch.setattr(limits, "MEMBERS_MAX", 3)
    assert refusal(cluster.with_learner, learner) == "too-many-members"
    monkeypatch.setattr(limits, "RETIRED_IDS_MAX", 1)
    assert refusal(cluster.removed("n1").removed, "n2") == "too-many-members"


def test_a_lost_disk_costs_the_vote_until_it_is_given_again() -> None:
    lost = members(3, known=True).with_incarnation("n1", b"x" * 16)
    assert (lost["n1"].voter, lost["n1"].returning, lost.voter_ids) == (False, True, {"n0", "n2"})
    again = lost.with_incarnation("n1", b"y" * 16)
    assert (again["n1"].voter, again["n1"].returning) == (False, True)
    back = again.promoted("n1")
    assert back["n1"] == msgspec.structs.replace(members(3)["n1"], incarnation=b"y" * 16)


def test_a_learner_that_somebody_added_is_not_promoted_unasked() -> None:
    cluster = members(3, known=True).with_learner(Member("n9", "z", "h9", 1, voter=True, returning=True))
    assert (cluster["n9"].voter, cluster["n9"].returning) == (False, False)
    known = cluster.with_incarnation("n9", b"x" * 16).with_incarnation("n9", b"y" * 16)
    assert (known["n9"].voter, known["n9"].returning) == (False, False)


# Zones.


def status(
    id: str, zone: str, *, connected: bool = True, caught_up: bool = True, voter: bool = True
) -> MemberStatus:
    return MemberStatus(id, zone, 7, connected, voter, caught_up, 0.0)


def test_a_zone_each_can_be_lost() -> None:
    cluster = [status("a", "x"), status("b", "y"), status("c", "z")]
    assert [zone_loss(cluster, zone) for zone in "xyz"] == [None] * 3
    assert zone_majorities(cluster) == ()


def test_a_zone_without_which_there_is_no_majority() -> None:
    cluster = [status("a", "x"), status("b", "x"), status("c", "z"), status("d", "z", voter=False)]
    assert "only 1 of 3 voters are outside of it" in str(zone_loss(cluster, "x"))
    assert zone_loss(cluster, "z") is None
    assert zone_majorities(cluster) == ("x",)


def test_half_of_the_voters_are_no_majority_and_yet_cannot_be_lost() -> None:
    cluster = [status("a", "x"), status("b", "x"), status("c", "z"), status("d", "z")]
    assert zone_majorities(cluster) == ()
    assert zone_loss(cluster, "x") is not None


def test_a_zone_cannot_be_lost_while_others_are_down_or_behind() -> None:
    down = [status("a", "x"), status("b", "y", connected=False), status("c", "z")]
    assert "b cannot be reached" in str(zone_loss(down, "x"))
    assert zone_loss(down, "y") is None
    behind = [status("a", "x"), status("b", "y", caught_up=False), status("c", "z")]
    assert "b must catch up first" in str(zone_loss(behind, "z"))
