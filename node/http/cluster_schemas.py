"""The JSON of members, zones and leadership."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from consensus.limits import ADDRESS_LENGTH_MAX, NODE_ID_LENGTH_MAX
from node.http.schemas import Count, Strict


class Member(msgspec.Struct, kw_only=True, frozen=True):
    """One member as the answering node sees it. How far the others are, only the leader knows."""

    id: str
    zone: str
    http: str
    raft: str
    role: Literal["leader", "follower", "candidate", "learner", "unknown"]
    voter: bool
    connected: bool
    healthy: bool
    match_index: Count | UnsetType = UNSET
    lag: Annotated[int, Meta(ge=0, description="Entries of the leader's log it lacks.")] | UnsetType = UNSET
    caught_up: bool | UnsetType = UNSET
    last_heard_s: Annotated[float, Meta(ge=0, description="Seconds since it was last heard.")] | UnsetType = (
        UNSET
    )
    snapshotting: Annotated[bool, Meta(description="It is being sent a snapshot.")] | UnsetType = UNSET


class Zone(msgspec.Struct, kw_only=True, frozen=True):
    """Whether the cluster would go on without any member of this zone, now; `why` says why not."""

    voters: list[str]
    can_lose: bool
    why: str | UnsetType = UNSET


class ClusterWarning(msgspec.Struct, kw_only=True, frozen=True):
    kind: Annotated[str, Meta(pattern="^[a-z-]+$")]
    detail: str


class Cluster(msgspec.Struct, kw_only=True, frozen=True):
    cluster: str
    node: str
    leader: str | None
    term: Count
    quorum: Annotated[int, Meta(ge=0, description="Voters that must acknowledge a write.")]
    members: list[Member]
    zones: dict[str, Zone]
    warnings: list[ClusterWarning]
    commit_index: Count
    applied_index: Count
    membership_index: Annotated[int, Meta(ge=0, description="The log entry that holds the membership.")]
    change_pending: Annotated[bool, Meta(description="A change of the membership is not committed yet.")]


# The part of the rule that a JSON Schema can say; node/config.py says the rest, and what is wrong.
_HOST_AND_PORT = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}"
Identifier = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class NewMember(Strict, kw_only=True, frozen=True):
    id: Identifier
    zone: Identifier
    raft: Annotated[
        str,
        Meta(
            max_length=ADDRESS_LENGTH_MAX,
            extra_json_schema={"pattern": rf"^{_HOST_AND_PORT}$"},
            description="host:port where the other members reach its replication.",
        ),
    ]
    http: Annotated[
        str,
        Meta(
            max_length=ADDRESS_LENGTH_MAX,
            extra_json_schema={"pattern": rf"^(https?://)?{_HOST_AND_PORT}$"},
            description="host:port, or the URL, where the other members and clients reach its API.",
        ),
    ]


class MemberChanged(msgspec.Struct, kw_only=True, frozen=True):
    """A member after a change that is committed."""

    id: str
    zone: str
    raft: str
    http: str
    voter: bool


class Transfer(Strict, kw_only=True, frozen=True):
    target: Annotated[str, Meta(min_length=1, max_length=NODE_ID_LENGTH_MAX)] | UnsetType = UNSET


class Transferred(msgspec.Struct, kw_only=True, frozen=True):
    leader: str
