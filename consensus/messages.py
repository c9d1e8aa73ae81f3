"""What members say to each other: MessagePack arrays with a tag, decoded strictly.

The Raft messages are those of the Raft thesis: figure 3.1 and sections 3.10, 6.4 and 9.6. Greetings open a
connection.
No pickle, no dictionaries: a message either fits its type exactly or is refused.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from consensus import limits
from consensus.errors import MalformedMessage, VersionsDoNotMeet
from consensus.membership import INCARNATION_SIZE_BYTES, Membership
from consensus.snapshot import Digest, Snapshot

PROTOCOL_VERSION_MIN = 3
PROTOCOL_VERSION_MAX = 3
"""The versions of the protocol that this code speaks. A message or member that version N brings is sent only
on links that agreed on N or above, so members of neighbouring versions work together while one by one they
are upgraded; the lowest version is dropped a release later. Versions 1 and 2 were never released: the first
knows no membership entries, the second no promises in answers."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
NodeId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.NODE_ID_LENGTH_MAX)]
Records: TypeAlias = Annotated[tuple[bytes, ...], Meta(max_length=limits.BATCH_ENTRIES_MAX)]


class Hello(Struct, frozen=True, tag=1, array_like=True, gc=False):
    """First frame of who dials: the versions he speaks, which cluster, who is calling and whom he wants; and
    since version 2 which server the caller's disk makes of him (membership.py).

    The one message that every version must be able to read, and so the one that is not read strictly: the
    first five members keep their places for ever, and what a later version appends is skipped.
    """

    version_min: Count
    version_max: Count
    cluster: str
    sender: NodeId
    target: NodeId
    incarnation: Annotated[bytes, Meta(max_length=INCARNATION_SIZE_BYTES)] = b""


class Welcome(Struct, frozen=True, tag=2, array_like=True, gc=False):
    """The only frame that goes back on a connection: accepted, and which version is spoken from here on.

    Read like Hello: these two members stay, and what a later version appends is skipped.
    """

    sender: NodeId
    version: Count


def common_version(hello: Hello) -> int:
    """The highest version that both ends speak. Raises VersionsDoNotMeet."""
    version = min(hello.version_max, PROTOCOL_VERSION_MAX)
    if version < max(hello.version_min, PROTOCOL_VERSION_MIN):
        raise VersionsDoNotMeet(
            f"it speaks versions {hello.version_min} to {hello.version_max} of the protocol, "
            f"this node {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}"
        )
    return version


class RequestVote(Struct, frozen=True, tag=10, array_like=True, forbid_unknown_fields=True, gc=False):
    """A candidate asks for a vote (thesis section 3.4) and shows the end of its log (section 3.6.1).

    With `transfer` the leader has told it to stand (section 3.10); whoever hears that leader votes, too.
    """

    term: Count
    last_index: Count
    last_term: Count
    transfer: bool


class VoteResponse(Struct, frozen=True, tag=11, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to RequestVote."""

    term: Count
    granted: bool


class Append(Struct, frozen=True, tag=12, array_like=True, forbid_unknown_fields=True, gc=False):
    """AppendEntries (thesis section 3.5); without entries, a heartbeat.

    `entries` are records (record.py) that follow `prev_index`. `commit_index` never goes beyond the last
    index that this message shows. `round` counts the leader's read confirmation rounds (section 6.4).
    `retain_index` is the lowest index that every member is known to hold in this term, 0 when unknown.
    """

    term: Count
    prev_index: Count
    prev_term: Count
    entries: Records
    commit_index: Count
    round: Count
    retain_index: Count


class AppendResponse(Struct, frozen=True, tag=13, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to Append.

    Accepted: `log_index` is the last index that the message proved to match. Refused: `log_index` is the
    message's `prev_index`; `conflict_term` is the term this log has there and `conflict_index` its first
    index of that term; or term 0 and the index after this log's end (thesis section 3.5).
    To a message of an older term: refused, and `log_index` and `round` are 0, which say and confirm nothing.
    Otherwise `round` is the message's.
    `promise_us`: having heard this leader, the sender elects nobody for so many microseconds (lease.py).
    """

    term: Count
    accepted: bool
    log_index: Count
    conflict_index: Count
    conflict_term: Count
    round: Count
    promise_us: Count = 0


class PreVote(Struct, frozen=True, tag=14, array_like=True, forbid_unknown_fields=True, gc=False):
    """Would the receiver vote for the sender in `term`, its next one (thesis section 9.6)? Fields as in
    RequestVote."""

    term: Count
    last_index: Count
    last_term: Count


class PreVoteResponse(Struct, frozen=True, tag=15, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to PreVote. `term` is the voter's own, `asked_term` the one that PreVote asked about."""

    term: Count
    asked_term: Count
    granted: bool


class TimeoutNow(Struct, frozen=True, tag=16, array_like=True, forbid_unknown_fields=True, gc=False):
    """The leader of `term` asks a follower that has its whole log to stand at once (thesis section 3.10)."""

    term: Count


class Contacts(Struct, frozen=True, tag=17, array_like=True, forbid_unknown_fields=True, gc=False):
    """First message on a connection: the sender's committed membership, which entry `index` brought.

    Whoever has an older one learns from it whom to let in and where to find them; nothing is counted by it.
    """

    index: Count
    membership: Membership


class InstallSnapshot(Struct, frozen=True, tag=18, array_like=True, forbid_unknown_fields=True, gc=False):
    """A chunk of a snapshot (thesis section 5.3): the `data` of `snapshot` from `offset` on, and its CRC-32.

    Without data it asks how much the follower has. It proves nothing about the follower's log (F1).
    """

    term: Count
    snapshot: Snapshot
    offset: Count
    checksum: Count
    data: Annotated[bytes, Meta(max_length=limits.SNAPSHOT_CHUNK_SIZE_BYTES)]


class SnapshotResponse(Struct, frozen=True, tag=19, array_like=True, forbid_unknown_fields=True, gc=False):
    """The answer to InstallSnapshot by a follower that needs the snapshot `digest`: it keeps `offset` bytes.

    `accepted` says that the chunk was the next one. Whoever does not need it answers with AppendResponse.
    """

    term: Count
    digest: Digest
    accepted: bool
    offset: Count


class Notice(Struct, frozen=True, tag=30, array_like=True, forbid_unknown_fields=True, gc=False):
    """Not Raft: what the node above has to say to the same node of another member. It may be lost."""

    body: Annotated[bytes, Meta(max_length=limits.NOTICE_SIZE_BYTES_MAX)]


Greeting: TypeAlias = Hello | Welcome
Answer: TypeAlias = VoteResponse | AppendResponse | PreVoteResponse | SnapshotResponse
Message: TypeAlias = Answer | RequestVote | Append | PreVote | TimeoutNow | InstallSnapshot | Contacts

_encoder = msgspec.msgpack.Encoder()
_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_frame_decoder: msgspec.msgpack.Decoder[Message | Notice] = msgspec.msgpack.Decoder(Message | Notice)
_greeting_decoder: msgspec.msgpack.Decoder[Greeting] = msgspec.msgpack.Decoder(Greeting)

encode = _encoder.encode


_MESSAGE_SIZE_BYTES = 256


def size_of(message: Message) -> int:
    """About how much memory a message takes, in bytes."""
    if isinstance(message, Append):
        return _MESSAGE_SIZE_BYTES + sum(map(len, message.entries))
    if isinstance(message, InstallSnapshot):
        return _MESSAGE_SIZE_BYTES + len(message.data)
    return _MESSAGE_SIZE_BYTES


def decode_message(body: bytes | memoryview) -> Message:
    """A message of Raft. Raises MalformedMessage."""
    try:
        return _message_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"not a message: {error}") from error


def decode_frame(body: bytes | memoryview) -> Message | Notice:
    """Anything that follows the greeting. Raises MalformedMessage."""
    try:
        return _frame_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"not a message: {error}") from error


def decode_greeting(body: bytes | memoryview) -> Greeting:
    """Raises MalformedMessage."""
    try:
        return _greeting_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedMessage(f"not a greeting: {error}") from error
