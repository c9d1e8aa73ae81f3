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
    url_of_node = {peer.id: peer.http_url for peer in services.config.peers}
    return answer_struct(
        schemas.Cluster(
            cluster=services.config.cluster,
            node=services.config.node_id,
            leader=status.leader_id,
            term=status.term,
            nodes=[_member(status, member, url_of_node.get(member.id, "")) for member in status.members],
            commit_index=status.commit_index,
            applied_index=status.applied_index,
        )
    )


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
