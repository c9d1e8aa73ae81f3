"""Who belongs to a cluster: pure values and the changes one may make to them, one server at a time.

Raft thesis (Diego Ongaro, "Consensus: Bridging Theory and Practice", 2014), chapter 4. A membership is the
payload of a log entry of its own kind. A server uses the latest one in its log, committed or not (section
4.1). Each change below moves at most one vote, so that every majority before it meets every majority after
it; that only one is under way at a time, and none before the leader's no-op has committed, is the rule of
raft_rules.py.

A server is an id and an incarnation: the 16 random bytes that a data directory draws when it is created. A
disk that was lost and comes back empty is therefore another server. It must not vote in the place of the
one that is gone, because it has forgotten what that one promised: votes (section 3.8) and entries that it
acknowledged. So nobody counts what it says while the membership names the former incarnation, and the leader
replaces the one server with the other by two ordinary changes: a voter less, which is at once a learner that
is empty, and, when that has caught up, a voter more. Why this is safe, and what holds before a log has its
first membership, is argued in docs/adr/0007-membership-and-incarnations.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from consensus import limits
from consensus.errors import ConsensusError

Reason: TypeAlias = Literal[
    "member-exists",
    "member-unknown",
    "member-retired",
    "address-in-use",
    "change-in-progress",
    "not-caught-up",
    "last-voter",
    "quorum-at-risk",
    "too-many-members",
    "not-ready",
]

INCARNATION_SIZE_BYTES = 16

MemberId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.NODE_ID_LENGTH_MAX)]
_Text: TypeAlias = Annotated[str, Meta(max_length=limits.ADDRESS_LENGTH_MAX)]
_Value = TypeVar("_Value", int, float)


class MembershipRefused(ConsensusError):
    """This change cannot be made, or not now. `reason` is one of a fixed set, for programs."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class MembershipInvalid(ValueError):
    """The bytes are not a membership."""


class Member(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One server. `host` and `port` are where the other members dial it.

    `http` ("host:port") means nothing here; it is for whoever forwards and reports. Without `voter` it is a
    learner: it gets the log, and is not counted (thesis section 4.2.1). `incarnation` is that of its data
    directory, empty while not known. `returning` marks a learner that was a voter until it lost its disk: the
    leader promotes it without being asked.
    """

    id: MemberId
    zone: _Text
    host: _Text
    port: Annotated[int, Meta(ge=0, le=65_535)]
    http: _Text = ""
    voter: bool = True
    incarnation: Annotated[bytes, Meta(max_length=INCARNATION_SIZE_BYTES)] = b""
    returning: bool = False


class Membership(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """Members in the order of their ids, and ids that are never used again.

    Who votes is asked in every turn of the event loop, so it is worked out once (hence `dict`).
    """

    members: Annotated[tuple[Member, ...], Meta(max_length=limits.MEMBERS_MAX)] = ()
    retired: Annotated[tuple[MemberId, ...], Meta(max_length=limits.RETIRED_IDS_MAX)] = ()

    # Who is in it.

    def get(self, member_id: str) -> Member | None:
        return self._by_id.get(member_id)

    @cached_property
    def _by_id(self) -> dict[str, Member]:
        return {each.id: each for each in self.members}

    def __getitem__(self, member_id: str) -> Member:
        """Raises MembershipRefused (member-unknown)."""
        found = self.get(member_id)
        if found is None:
            raise MembershipRefused("member-unknown", f"{member_id!r} is no member of this cluster")
        return found

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(each.id for each in self.members)

    @cached_property
    def voters(self) -> tuple[Member, ...]:
        return tuple(each for each in self.members if each.voter)

    @cached_property
    def learners(self) -> tuple[Member, ...]:
        return tuple(each for each in self.members if not each.voter)

    @cached_property
    def voter_ids(self) -> frozenset[str]:
        return frozenset(each.id for each in self.voters)

    # Quorums.

    @cached_property
    def quorum(self) -> int:
        """How many voters are a majority of them."""
        return len(self.voters) // 2 + 1

    def has_quorum(self, ids: frozenset[str] | set[str]) -> bool:
        """Whether a majority of the voters is among `ids`; never when there are no voters."""
        return len(self.voter_ids & ids) >= self.quorum

    def reached_by_quorum(self, value_of: Callable[[str], _Value]) -> _Value:
        """The highest value that a majority of the voters has reached, given each voter's.

        There must be a voter.
        """
        values = sorted((value_of(each.id) for each in self.voters), reverse=True)
        return values[self.quorum - 1]

    # Changes, each to a membership of its own; each raises MembershipRefused.

    def with_learner(self, member: Member) -> Membership:
        """A server more, without a vote (section 4.2.1). It must not have been a member before: a server that
        was removed and one that takes its name must not be taken for each other."""
        if self.get(member.id) is not None:
            raise MembershipRefused("member-exists", f"{member.id} is a member already")
        if member.id in self.retired:
            raise MembershipRefused("member-retired", f"{member.id} was removed; its id is not used again")
        for each in self.members:
            if (each.host, each.port) == (member.host, member.port) or (
                each.http and each.http == member.http
            ):
                raise MembershipRefused("address-in-use", f"{each.id} has that address")
        if len(self.members) >= limits.MEMBERS_MAX:
            raise MembershipRefused("too-many-members", f"a cluster has at most {limits.MEMBERS_MAX} members")
        learner = msgspec.structs.replace(member, voter=False, returning=False)
        return self._with([*self.members, learner])

    def promoted(self, member_id: str) -> Membership:
        """A vote more."""
        member = self[member_id]
        if member.voter:
            raise MembershipRefused("member-exists", f"{member_id} is a voter already")
        return self._replacing(msgspec.structs.replace(member, voter=True, returning=False))

    def removed(self, member_id: str) -> Membership:
        """A server less; its id is retired."""
        member = self[member_id]
        self._check_not_last_voter(member)
        if len(self.retired) >= limits.RETIRED_IDS_MAX:
            raise MembershipRefused(
                "too-many-members", f"{limits.RETIRED_IDS_MAX} ids are retired; no more can be remembered"
            )
        rest = [each for each in self.members if each.id != member_id]
        return self._with(rest, (*self.retired, member_id))

    def with_incarnation(self, member_id: str, incarnation: bytes) -> Membership:
        """The server of that id with another disk. One whose disk is lost loses its vote with it; one whose
        incarnation was not known keeps what it has."""
        member = self[member_id]
        if member.incarnation == incarnation:
            raise MembershipRefused("member-exists", f"{member_id} has that incarnation already")
        lost = bool(member.incarnation)
        if lost:
            self._check_not_last_voter(member)
        return self._replacing(
            msgspec.structs.replace(
                member,
                incarnation=incarnation,
                voter=member.voter and not lost,
                returning=member.returning or (member.voter and lost),
            )
        )

    def without_vote(self, member_id: str) -> Membership:
        """A voter less, which gets its vote back when it has caught up: it has forgotten what it promised,
        although its incarnation is what it was."""
        member = self[member_id]
        self._check_not_last_voter(member)
        return self._replacing(msgspec.structs.replace(member, voter=False, returning=True))

    def with_incarnations(self, known: Mapping[str, bytes]) -> Membership:
        """The first entry's: the same servers, with the incarnations that are known."""
        return self._with(
            [
                msgspec.structs.replace(each, incarnation=known.get(each.id, each.incarnation))
                for each in self.members
            ]
        )

    def _check_not_last_voter(self, member: Member) -> None:
        if self.voters == (member,):
            raise MembershipRefused("last-voter", f"{member.id} is the only voter")

    def _replacing(self, member: Member) -> Membership:
        return self._with([member if each.id == member.id else each for each in self.members])

    def _with(self, members: list[Member], retired: tuple[str, ...] | None = None) -> Membership:
        in_order = tuple(sorted(members, key=lambda each: each.id))
        return Membership(in_order, self.retired if retired is None else retired)


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Membership)


def encode(membership: Membership) -> bytes:
    """The payload of a membership entry: MessagePack, arrays in the order of the members above."""
    return _encoder.encode(membership)


def decode(payload: bytes) -> Membership:
    """Raises MembershipInvalid for what `encode` does not make of a membership that the changes lead to."""
    try:
        membership: Membership = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise MembershipInvalid(f"not a membership: {error}") from error
    ids = [each.id for each in membership.members]
    if ids != sorted(set(ids)) or set(ids) & set(membership.retired) or not membership.voters:
        raise MembershipInvalid(
            "a membership with ids out of order, used twice or retired, or without voters"
        )
    if any(len(each.incarnation) not in (0, INCARNATION_SIZE_BYTES) for each in membership.members):
        raise MembershipInvalid("a membership with an incarnation of a wrong size")
    return membership
