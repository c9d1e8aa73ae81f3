"""What GET /v1/cluster says: a pure function of a replica's status and its membership."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from msgspec import UNSET

from consensus.config import MemberStatus, ReplicaStatus, Role
from consensus.membership import Member, Membership
from consensus.zones import zone_loss, zone_majorities
from node import limits
from node.config import address
from node.http import cluster_schemas

_ASK_THE_LEADER = "only the leader knows how far the others are; ask with ?consistency=strong"


def cluster_view(cluster: str, status: ReplicaStatus, membership: Membership) -> cluster_schemas.Cluster:
    """The cluster as the node with this status sees it."""
    return cluster_schemas.Cluster(
        cluster=cluster,
        node=status.node_id,
        leader=status.leader_id,
        term=status.term,
        quorum=membership.quorum if membership.voters else 0,
        members=[
            _member(status, each, member)
            for each, member in zip(status.members, membership.members, strict=True)
        ],
        zones=_zones(status),
        warnings=[
            cluster_schemas.ClusterWarning(kind=kind, detail=detail) for kind, detail in _warnings(status)
        ],
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        membership_index=status.membership_index,
        change_pending=status.change_pending,
    )


def is_healthy(status: ReplicaStatus, member: MemberStatus) -> bool:
    """Whether a member does its part, as far as this node can know.

    The leader: it was heard a moment ago and, if it votes, has nearly all of the log. Others: their own
    leader, and whom they reach.
    """
    if member.id == status.node_id:
        return status.leader_id is not None
    if not member.connected:
        return False
    if status.role is not Role.LEADER:
        return True
    return _heard(member) and (member.caught_up or not member.voter)


def _heard(member: MemberStatus) -> bool:
    return member.last_heard_s is not None and member.last_heard_s <= limits.MEMBER_SILENCE_S_MAX


def healthy_voters(status: ReplicaStatus) -> set[str]:
    return {member.id for member in status.members if member.voter and is_healthy(status, member)}


def _member(status: ReplicaStatus, seen: MemberStatus, member: Member) -> cluster_schemas.Member:
    leads = status.role is Role.LEADER
    own = seen.id == status.node_id
    return cluster_schemas.Member(
        id=member.id,
        zone=member.zone,
        http=member.http,
        raft=address(member.host, member.port),
        role=_role(status, seen),
        voter=member.voter,
        connected=seen.connected or own,
        healthy=is_healthy(status, seen),
        match_index=UNSET if seen.match_index is None else seen.match_index,
        lag=UNSET if seen.match_index is None else max(0, status.last_index - seen.match_index),
        caught_up=(own or seen.caught_up) if leads else UNSET,
        last_heard_s=UNSET if own or seen.last_heard_s is None else round(seen.last_heard_s, 3),
        snapshotting=seen.snapshotting if leads else UNSET,
    )


def _role(
    status: ReplicaStatus, member: MemberStatus
) -> Literal["leader", "follower", "candidate", "learner", "unknown"]:
    if member.id == status.leader_id:
        return "leader"
    if not member.voter:
        return "learner"
    if member.id == status.node_id:
        return "candidate" if status.role is Role.CANDIDATE else "follower"
    # Who else is a candidate right now, only he knows.
    return "follower" if status.leader_id is not None else "unknown"


def _zones(status: ReplicaStatus) -> dict[str, cluster_schemas.Zone]:
    zones: dict[str, cluster_schemas.Zone] = {}
    # Whoever is connected and silent, because it hangs or its machine is gone, would be no help either.
    members = [
        replace(member, connected=member.connected and (member.id == status.node_id or _heard(member)))
        for member in status.members
    ]
    for zone in sorted({member.zone for member in members}):
        why = zone_loss(members, zone) if status.role is Role.LEADER else _ASK_THE_LEADER
        voters = [member.id for member in status.members if member.zone == zone and member.voter]
        zones[zone] = cluster_schemas.Zone(
            voters=voters, can_lose=why is None, why=UNSET if why is None else why
        )
    return zones


def _warnings(status: ReplicaStatus) -> Iterator[tuple[str, str]]:
    """Kind and text of what an operator should look at."""
    voters = [member for member in status.members if member.voter]
    if status.leader_id is None:
        yield "no-leader", "no leader is known: nothing can be written"
    for zone in zone_majorities(status.members):
        held = sum(member.zone == zone for member in voters)
        yield (
            "zone-majority",
            f"{zone} holds {held} of {len(voters)} voters: if it fails, the cluster stops",
        )
    if voters and len(voters) % 2 == 0:
        yield "even-voters", f"{len(voters)} voters survive no more failures than {len(voters) - 1} would"
    yield from _of_members(status)
    quorum = len(voters) // 2 + 1
    if status.role is Role.LEADER and len(voters) > 1 and len(healthy_voters(status)) <= quorum:
        yield (
            "no-margin",
            f"only {quorum} of {len(voters)} voters are healthy: one more failure stops the cluster",
        )


def _trouble(status: ReplicaStatus, member: MemberStatus) -> str:
    if _heard(member):
        return f"is {status.last_index - (member.match_index or 0)} entries behind"
    if member.last_heard_s is None:
        return "has not been heard yet"
    return f"has not been heard for {member.last_heard_s:.0f} s"


def _of_members(status: ReplicaStatus) -> Iterator[tuple[str, str]]:
    leads = status.role is Role.LEADER
    for member in status.members:
        if member.id == status.node_id:
            continue
        if not member.connected:
            yield "member-down", f"{member.id} in {member.zone} is not connected to {status.node_id}"
        elif not leads:
            continue
        elif not is_healthy(status, member):
            yield "member-behind", f"{member.id} in {member.zone} {_trouble(status, member)}"
        elif not member.voter and member.caught_up:
            yield "learner-ready", f"{member.id} is a learner and has caught up: it can be promoted"
