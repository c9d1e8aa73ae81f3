"""The JSON of erasures."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from node.http.parameters import NUMBER_MAX
from node.http.schemas import Count, Hex32, Key, Moment, Name, Strict
from node.limits import ERASURE_REASON_LENGTH_MAX, ERASURE_VERSIONS_MAX


class ErasureBody(Strict, kw_only=True, frozen=True):
    table: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z][A-Za-z0-9_-]{0,62}(@(0|[1-9][0-9]{0,15}))?$",
            description="A table's name; or its id, which reaches a dropped one whose name is in use again.",
        ),
    ]
    key: Key
    versions: (
        Annotated[
            list[Annotated[int, Meta(ge=0, le=NUMBER_MAX)]],
            Meta(min_length=1, max_length=ERASURE_VERSIONS_MAX),
        ]
        | Literal["all"]
    )
    reason: Annotated[str, Meta(min_length=1, max_length=ERASURE_REASON_LENGTH_MAX)]


class ErasureReplica(msgspec.Struct, kw_only=True, frozen=True):
    """How far one node is. It waits for the block itself, for its log or its files to be cleared, or it did
    not answer."""

    id: str
    complete: bool
    completed_at: Moment | UnsetType = UNSET
    waiting_for: Literal["block", "log", "files", "answer"] | UnsetType = UNSET


class ErasureAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """`versions` are inclusive ranges, `table` is the table's id. Complete: no replica holds it any more."""

    ledger: Name
    table: str
    key: str
    versions: list[tuple[Count, Count]]
    reason: str
    seq: Count
    tx: Hex32
    at: Moment
    complete: bool
    replicas: list[ErasureReplica]
