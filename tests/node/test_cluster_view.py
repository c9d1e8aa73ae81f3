"""What the cluster looks like to one node: health, zones, warnings."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from consensus.config import MemberStatus, ReplicaStatus, Role
from consensus.membership import Member, Membership
from node import limits
from node.http.cluster_schemas import Cluster
from node.http.cluster_view import cluster_view

LAST_INDEX = 100


def seen(member_id: str, zone: str, **members: Any) -> MemberStatus:
    """As the leader sees a voter that does its part."""
    healthy = {"match_index": LAST_INDEX, "connected": True, "caught_up": True, "last_heard_s": 0.1}
    return MemberStatus(id=member_id, zone=zone, **(healthy | members))


def view(*statuses: MemberStatus, role: Role = Role.LEADER, leader_id: str | None = "n0") -> Cluster:
    members = tuple(
        Member(id=each.id, zone=each.zone, host="::1", port=1, http=f"http://{each.id}", voter=each.voter)
        for each in statuses
    )
    status = ReplicaStatus(
        node_id="n0",
        role=role,
        term=3,
        leader_id=leader_id,
        commit_index=90,
        applied_index=90,
        first_index=1,
        last_index=LAST_INDEX,
        members=statuses,
        membership_index=2,
        change_pending=False,
    )
    return cluster_view("c", status, Membership(members))


def kinds(cluster: Cluster) -> list[str]:
    return [warning.kind for warning in cluster.warnings]


def test_three_healthy_voters_in_three_zones_leave_nothing_to_warn_of() -> None:
    cluster = view(seen("n0", "a"), seen("n1", "b"), seen("n2", "c"))
    assert (cluster.quorum, kinds(cluster)) == (2, [])
    assert [(member.role, member.healthy, member.lag) for member in cluster.members] == [
        ("leader", True, 0),
        ("follower", True, 0),
        ("follower", True, 0),
    ]
    assert {zone: found.can_lose for zone, found in cluster.zones.items()} == dict.fromkeys("abc", True)
    assert cluster.members[0].raft == "[::1]:1"


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ({"connected": False}, "member-down"),
        ({"last_heard_s": limits.MEMBER_SILENCE_S_MAX + 0.1}, "member-behind"),
        ({"last_heard_s": None}, "member-behind"),
        ({"caught_up": False, "match_index": 7}, "member-behind"),
    ],
)
def test_a_voter_that_does_not_do_its_part_is_no_margin(trouble: dict[str, Any], kind: str) -> None:
    cluster = view(seen("n0", "a"), seen("n1", "b"), seen("n2", "c", **trouble))
    assert not cluster.members[2].healthy
    assert kinds(cluster) == [kind, "no-margin"]
    assert all("n2" in warning.detail for warning in cluster.warnings[:1])


def test_what_a_zone_would_take_with_it_is_said() -> None:
    for trouble in ({"connected": False}, {"last_heard_s": 60.0}, {"caught_up": False}):
        cluster = view(seen("n0", "a"), seen("n1", "b"), seen("n2", "c", **trouble))
        assert [cluster.zones[zone].can_lose for zone in "abc"] == [False, False, True]
    assert "n2" in str(cluster.zones["a"].why)
    assert cluster.zones["c"].can_lose
    assert cluster.zones["c"].why is UNSET


def test_a_zone_with_a_majority_and_an_even_number_of_voters_are_warned_of() -> None:
    cluster = view(seen("n0", "a"), seen("n1", "a"), seen("n2", "b"))
    assert kinds(cluster) == ["zone-majority"]
    assert "2 of 3" in cluster.warnings[0].detail
    cluster = view(*(seen(f"n{n}", f"z{n}") for n in range(4)))
    assert kinds(cluster) == ["even-voters"]


def test_a_learner_counts_for_nothing_and_says_when_it_is_ready() -> None:
    voters = [seen("n0", "a"), seen("n1", "b"), seen("n2", "c")]
    cluster = view(*voters, seen("n3", "d", voter=False, caught_up=False, match_index=10))
    assert (cluster.quorum, cluster.members[3].role, cluster.members[3].lag) == (2, "learner", 90)
    assert (cluster.members[3].healthy, kinds(cluster)) == (True, [])
    assert cluster.zones["d"].can_lose
    assert cluster.zones["d"].voters == []
    assert kinds(view(*voters, seen("n3", "d", voter=False))) == ["learner-ready"]


def test_a_follower_says_only_what_it_knows() -> None:
    unknown = {"match_index": None, "caught_up": False, "last_heard_s": None}
    members = [seen(f"n{n}", f"z{n}", **unknown) for n in range(3)]
    cluster = view(*members, role=Role.FOLLOWER, leader_id="n1")
    assert [member.role for member in cluster.members] == ["follower", "leader", "follower"]
    assert all(member.healthy and member.lag is UNSET for member in cluster.members)
    assert kinds(cluster) == []
    assert not any(zone.can_lose for zone in cluster.zones.values())
    assert "consistency=strong" in str(cluster.zones["z0"].why)


def test_without_a_leader_nobody_is_taken_for_healthy_by_itself() -> None:
    cluster = view(seen("n0", "a"), seen("n1", "b"), role=Role.CANDIDATE, leader_id=None)
    assert "no-leader" in kinds(cluster)
    assert (cluster.members[0].role, cluster.members[0].healthy) == ("candidate", False)
    assert cluster.members[1].role == "unknown"


def test_a_node_that_waits_to_be_added_knows_of_no_members() -> None:
    cluster = view(role=Role.FOLLOWER, leader_id=None)
    assert (cluster.members, cluster.zones, cluster.quorum) == ([], {}, 0)
