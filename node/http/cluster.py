"""The cluster as one node sees it."""

from __future__ import annotations

from typing import cast

from msgspec import UNSET

from consensus.membership import Membership
from node import limits
from node.http import cluster_schemas
from node.http.answers import WholeAnswer, answer_struct
from node.http.bodies import parse_struct, read_body
from node.http.cluster_view import cluster_view
from node.http.parameters import Consistency, Query
from node.http.problems import Problem
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import Services


class ClusterQuery(Query, kw_only=True, frozen=True):
    consistency: Consistency = "snapshot"


async def get_cluster(services: Services, call: Call) -> WholeAnswer:
    """Strong: by a leader that has just confirmed that it is the leader; others pass the request on to it."""
    if cast(ClusterQuery, call.parsed_query).consistency == "strong":
        await services.reads.strong()
    replica = services.replica
    return answer_struct(cluster_view(services.config.cluster, replica.status(), replica.membership))


async def post_transfer(services: Services, call: Call) -> WholeAnswer:
    """Hand the leadership over, to a node that is named or to the one that is most complete."""
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    asked = cluster_schemas.Transfer()
    if body:
        asked, _ = parse_struct(body, cluster_schemas.Transfer, limits.SETTINGS_SIZE_BYTES_MAX)
    target_id = None if asked.target is UNSET else asked.target
    if target_id is not None:
        _check_target(services.replica.membership, target_id)
    if target_id is not None and target_id == services.config.node_id:
        return answer_struct(cluster_schemas.Transferred(leader=target_id))
    leader_id = await services.replica.transfer_leadership(target_id)
    return answer_struct(cluster_schemas.Transferred(leader=leader_id))


def _check_target(membership: Membership, target_id: str) -> None:
    """Raises Problem (invalid-field)."""
    target = membership.get(target_id)
    if target is None:
        raise Problem("invalid-field", f"there is no node {target_id!r}", field="target")
    if not target.voter:
        raise Problem("invalid-field", f"{target_id!r} is a learner, and only voters lead", field="target")


ROUTES = (
    Route(
        "GET",
        "/v1/cluster",
        get_cluster,
        operation_id="getCluster",
        summary="The cluster as the answering node sees it",
        description="With consistency=strong, as the leader sees it: only the leader knows how far each "
        "member is, and so which zone could fail without stopping the cluster.",
        tag="cluster",
        query=ClusterQuery,
        answers={200: Answer("Members, zones and warnings.", Content(JSON, cluster_schemas.Cluster))},
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
        body=Content(JSON, cluster_schemas.Transfer, required=False),
        answers={200: Answer("Who leads now.", Content(JSON, cluster_schemas.Transferred))},
        problems=("transfer-failed",),
    ),
)
