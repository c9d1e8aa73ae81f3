"""The JSON of keys."""

from __future__ import annotations

from typing import Literal

import msgspec

from node.http.schemas import Count


class ReplicaKey(msgspec.Struct, kw_only=True, frozen=True):
    node: str
    verifier_keys: list[str]
    state: Literal["active", "retired"]


class KeyStatement(msgspec.Struct, kw_only=True, frozen=True):
    seq: Count
    statement: str


class ClusterKeys(msgspec.Struct, kw_only=True, frozen=True):
    """`log` is null until the first leader has recorded it. Retired keys come after the active ones."""

    cluster: str
    ledger: Literal["$system"] = "$system"
    log: str | None
    replicas: list[ReplicaKey]
    statements: list[KeyStatement]
