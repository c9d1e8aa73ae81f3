"""The cluster as one node sees it."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec import UNSET

from consensus.config import MemberStatus, ReplicaStatus
from node import limits
from node.http import schemas
from node.http.answers import answer_struct
from node.http.bodies import parse_struct, read_body
from node.http.problems import Problem
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


async def post_transfer(services: Services, call: Call) -> web.Response:
    """Hand the leadership over, to a node that is named or to the one that is most complete."""
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    asked = schemas.Transfer()
    if body:
        asked, _ = parse_struct(body, schemas.Transfer, limits.SETTINGS_SIZE_BYTES_MAX)
    target_id = None if asked.target is UNSET else asked.target
    if target_id is not None and all(peer.id != target_id for peer in services.config.peers):
        raise Problem("invalid-field", f"there is no node {target_id!r}", field="target")
    if target_id is not None and target_id == services.config.node_id:
        return answer_struct(schemas.Transferred(leader=target_id))
    leader_id = await services.replica.transfer_leadership(target_id)
    return answer_struct(schemas.Transferred(leader=leader_id))


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
    Route(
        "POST",
        "/v1/cluster/transfer",
        post_transfer,
        operation_id="transferLeadership",
        summary="Hand the leadership to another node",
        description="Without a target, the node with the most complete log takes over. For about a round "
        "trip, at most for a second, writes are answered 503 no-leader.",
        tag="cluster",
        leader="always",
        body=Content(JSON, schemas.Transfer, required=False),
        answers={200: Answer("Who leads now.", Content(JSON, schemas.Transferred))},
        problems=(
            "transfer-failed",
            "invalid-field",
            "invalid-json",
            "duplicate-member",
            "not-an-object",
            "body-too-large",
        ),
    ),
)
