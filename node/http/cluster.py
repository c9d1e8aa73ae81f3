"""The cluster as one node sees it."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import UNSET

from consensus.config import MemberStatus, ReplicaStatus
from node.http import schemas
from node.http.answers import answer_struct
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import Services


async def get_cluster(services: Services, call: Call) -> web.Response:
    status = services.replica.status()
    leader_id = leader_in_reach(status)
    url_of_node = {peer.id: peer.http_url for peer in services.config.peers}
    return answer_struct(
        schemas.Cluster(
            cluster=services.config.cluster,
            node=services.config.node_id,
            leader=leader_id,
            term=status.term,
            nodes=[_member(status, member, url_of_node.get(member.id, "")) for member in status.members],
            commit_index=status.commit_index,
            applied_index=status.applied_index,
        )
    )


def leader_in_reach(status: ReplicaStatus) -> str | None:
    """The leader, if this node is it or has a connection to it.

    A node that is cut off keeps the last leader's name, because it cannot hold an election alone.
    """
    for member in status.members:
        if member.id == status.leader_id and (member.connected or member.id == status.node_id):
            return member.id
    return None


def _member(status: ReplicaStatus, member: MemberStatus, url: str) -> schemas.Member:
    return schemas.Member(
        id=member.id,
        zone=member.zone,
        http=url,
        role=_role(status, member),
        connected=member.connected or member.id == status.node_id,
        match_index=UNSET if member.match_index is None else member.match_index,
    )


def _role(
    status: ReplicaStatus, member: MemberStatus
) -> Literal["leader", "follower", "candidate", "unknown"]:
    if member.id == status.node_id:
        if status.role.name == "LEADER":
            return "leader"
        return "candidate" if status.role.name == "CANDIDATE" else "follower"
    if member.id == status.leader_id:
        return "leader"
    # Who else is a candidate right now, only he knows.
    return "follower" if status.leader_id is not None else "unknown"


ROUTES = (
    Route(
        "GET",
        "/v1/cluster",
        get_cluster,
        operation_id="getCluster",
        summary="The cluster as the answering node sees it",
        tag="cluster",
        answers={200: Answer("The nodes and their roles.", Content(JSON, schemas.Cluster))},
    ),
)
