"""Conditional requests (RFC 9110, section 13) and idempotency keys."""

from __future__ import annotations

import hashlib
import re

from node.http.problems import Problem
from node.http.route import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, Call
from storage.commands import Condition

_ETAG = re.compile(IF_MATCH.pattern)
_KEY = re.compile(IDEMPOTENCY_KEY.pattern)


def write_conditions(call: Call, table: str, key: str) -> tuple[Condition, ...]:
    """What If-Match or If-None-Match of a write asks for. Raises Problem (bad-precondition)."""
    headers = call.request.headers
    match = headers.getall("If-Match", None)
    none_match = headers.getall("If-None-Match", None)
    if match is None and none_match is None:
        return ()
    if match is not None and none_match is not None:
        raise Problem("bad-precondition", "If-Match and If-None-Match exclude each other", field="If-Match")
    if match is not None:
        if len(match) != 1 or not _ETAG.fullmatch(match[0]):
            raise Problem(
                "bad-precondition", 'If-Match must be one version in quotes, such as "3"', field="If-Match"
            )
        return (Condition(table, key, None, int(match[0][1:-1]), "version"),)
    if none_match != ["*"]:
        raise Problem("bad-precondition", "If-None-Match of a write must be *", field=IF_NONE_MATCH.name)
    return (Condition(table, key, None, None, "absent"),)


def matches_copy(call: Call, version: int) -> bool:
    """Whether the reader's copy (If-None-Match with ETags) is this version."""
    text = call.header("If-None-Match")
    if text is None:
        return False
    if text.strip() == "*":
        return True
    # Weak comparison, as RFC 9110 section 13.1.2 has it for If-None-Match.
    return f'"{version}"' in [tag.strip().removeprefix("W/") for tag in text.split(",")]


def idempotency_key(call: Call) -> str | None:
    """Raises Problem (invalid-header)."""
    values = call.request.headers.getall("Idempotency-Key", None)
    if values is None:
        return None
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise Problem(
            "invalid-header",
            "Idempotency-Key must come once, with 1 to 255 visible ASCII characters",
            field="Idempotency-Key",
            limit=255,
        )
    return values[0]


def request_digest(call: Call, canonical_body: bytes) -> bytes:
    """SHA-256 over what makes two requests the same: method, path, preconditions and canonical body.

    The names stand decoded, each with its length before it, so that two ways to escape an address
    are the same request and no two requests run into each other.
    """
    headers = call.request.headers
    parts = [
        call.method,
        call.route.path,
        *call.names,
        headers.get("If-Match", ""),
        headers.get("If-None-Match", ""),
    ]
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(canonical_body)
    return digest.digest()
