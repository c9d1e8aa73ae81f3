"""Changing the membership: one member at a time, through the leader, answered when it is committed."""

from __future__ import annotations

from aiohttp import web

from consensus.membership import Member, Membership
from node import limits
from node.config import Config, ConfigInvalid, address, check_http_url, is_loopback, parse_address
from node.http import cluster_schemas
from node.http.answers import Response, WholeAnswer, answer, answer_struct, encode
from node.http.bodies import parse_struct, read_body
from node.http.problems import Problem
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import Services


async def post_member(services: Services, call: Call) -> WholeAnswer:
    """Add a learner. One that is there with these addresses stays what it is: the request may be repeated."""
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    asked, _ = parse_struct(body, cluster_schemas.NewMember, limits.SETTINGS_SIZE_BYTES_MAX)
    member = _member_of(asked, services.config)
    existing = (await services.membership.settled()).get(member.id)
    if existing is not None and _same_place(existing, member):
        return answer_struct(_changed(existing))
    await services.replica.add_learner(member)
    return answer(encode(_changed(member)), status=201, location=f"/v1/cluster/members/{member.id}")


async def post_promote(services: Services, call: Call) -> WholeAnswer:
    (member_id,) = call.names
    membership = await services.membership.settled()
    member = _known(membership, member_id)
    if not member.voter:
        check_voters(membership)
        await services.replica.promote(member_id)
        member = _known(services.replica.membership, member_id)
    return answer_struct(_changed(member))


async def delete_member(services: Services, call: Call) -> Response:
    (member_id,) = call.names
    _known(await services.membership.settled(), member_id)
    await services.replica.remove(member_id)
    return web.Response(status=204)


def _known(membership: Membership, member_id: str) -> Member:
    """Raises Problem (member-unknown, member-removed)."""
    member = membership.get(member_id)
    if member is None and member_id in membership.retired:
        raise Problem("member-removed", f"{member_id!r} was removed from the cluster")
    if member is None:
        raise Problem("member-unknown", f"there is no member {member_id!r}")
    return member


def check_voters(membership: Membership) -> None:
    """Whether there may be one voter more. Raises Problem (too-many-members)."""
    if len(membership.voters) >= limits.VOTERS_MAX:
        raise Problem(
            "too-many-members",
            f"a cluster has at most {limits.VOTERS_MAX} voters; this one stays a learner",
            limit=limits.VOTERS_MAX,
        )


def _member_of(asked: cluster_schemas.NewMember, config: Config) -> Member:
    """Raises Problem (invalid-field)."""
    url = asked.http if "://" in asked.http else f"http://{asked.http}"
    try:
        host, port = parse_address("raft", asked.raft)
        check_http_url("http", url)
    except ConfigInvalid as error:
        field, _, text = str(error).partition(": ")
        raise Problem("invalid-field", text, field=field) from error
    if not 1 <= port <= 65_535:
        raise Problem("invalid-field", f"there is no port {port}", field="raft")
    if config.replicates_in_plain and not is_loopback(host):
        raise Problem(
            "invalid-field",
            f"{host!r} is not on loopback, and this cluster replicates over plain TCP",
            field="raft",
        )
    return Member(id=asked.id, zone=asked.zone, host=host, port=port, http=url, voter=False, incarnation=b"")


def _same_place(one: Member, other: Member) -> bool:
    return (one.zone, one.host, one.port, one.http) == (other.zone, other.host, other.port, other.http)


def _changed(member: Member) -> cluster_schemas.MemberChanged:
    return cluster_schemas.MemberChanged(
        id=member.id,
        zone=member.zone,
        raft=address(member.host, member.port),
        http=member.http,
        voter=member.voter,
    )


_CHANGES = ("change-in-progress", "leader-not-ready")
_KNOWN = ("member-unknown", "member-removed")

ROUTES = (
    Route(
        "POST",
        "/v1/cluster/members",
        post_member,
        operation_id="addMember",
        summary="Add a node as a learner",
        description="The node waits with join = true and gets the log from then on; it does not vote before "
        "it is promoted. Answered when the change is committed, and 200 when the member is there already.",
        tag="cluster",
        leader="always",
        body=Content(JSON, cluster_schemas.NewMember),
        answers={
            200: Answer("It was a member already.", Content(JSON, cluster_schemas.MemberChanged)),
            201: Answer(
                "It is a learner.",
                Content(JSON, cluster_schemas.MemberChanged),
                {"Location": "Path of the member."},
            ),
        },
        problems=(
            *_CHANGES,
            "member-exists",
            "member-retired",
            "address-in-use",
            "too-many-members",
        ),
    ),
    Route(
        "POST",
        "/v1/cluster/members/{member}/promote",
        post_promote,
        operation_id="promoteMember",
        summary="Make a learner that has caught up a voter",
        tag="cluster",
        leader="always",
        answers={200: Answer("It is a voter.", Content(JSON, cluster_schemas.MemberChanged))},
        problems=(*_CHANGES, *_KNOWN, "member-not-caught-up", "quorum-at-risk", "too-many-members"),
    ),
    Route(
        "DELETE",
        "/v1/cluster/members/{member}",
        delete_member,
        operation_id="removeMember",
        summary="Take a member out of the cluster, for good",
        description="Its id is never used again. A leader that is removed hands the leadership over.",
        tag="cluster",
        leader="always",
        answers={204: Answer("It is no member any more.")},
        problems=(*_CHANGES, *_KNOWN, "last-voter", "quorum-at-risk"),
    ),
)
