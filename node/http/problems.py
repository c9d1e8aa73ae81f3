"""Typed errors of the API, answered as application/problem+json (RFC 9457).

Every slug of the catalogue has one status, one title and one answer to "does it help to try again?".
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from node.limits import RETRY_AFTER_S

TYPE_PREFIX = "urn:stele:problem:"
CONTENT_TYPE = "application/problem+json"
SERVER = "stele"
"""What the header Server says: no versions, of which only an attacker has a use."""


class Kind(NamedTuple):
    status: int
    title: str
    retryable: bool = False


CATALOGUE: dict[str, Kind] = {
    "bad-request": Kind(400, "The request is not valid HTTP"),
    "invalid-json": Kind(400, "The body is not valid JSON"),
    "duplicate-member": Kind(400, "A JSON object has the same member twice"),
    "invalid-number": Kind(400, "A number that a document cannot hold"),
    "invalid-utf8": Kind(400, "The body is not valid UTF-8"),
    "nesting-too-deep": Kind(400, "The JSON is nested too deeply"),
    "not-an-object": Kind(400, "A JSON object was expected"),
    "incomplete-body": Kind(400, "The body ended before it was complete"),
    "invalid-name": Kind(400, "A name that is not allowed"),
    "invalid-parameter": Kind(400, "A query parameter with a wrong value"),
    "unknown-parameter": Kind(400, "A query parameter that does not exist"),
    "invalid-header": Kind(400, "A header with a wrong value"),
    "bad-precondition": Kind(400, "A precondition that cannot be understood"),
    "erasure-not-allowed": Kind(403, "This cluster does not allow erasure"),
    "cross-origin": Kind(403, "A web page of another site may not use this API"),
    "route-unknown": Kind(404, "There is nothing at this address"),
    "ledger-unknown": Kind(404, "There is no such ledger"),
    "table-unknown": Kind(404, "There is no such table"),
    "not-found": Kind(404, "There is no such document or revision"),
    "block-unknown": Kind(404, "There is no such block"),
    "checkpoint-unknown": Kind(404, "There is no such checkpoint"),
    "member-unknown": Kind(404, "There is no such member of the cluster"),
    "member-removed": Kind(404, "The member was removed from the cluster"),
    "tile-unknown": Kind(404, "There is no such tile"),
    "method-not-allowed": Kind(405, "This address does not know the method"),
    "deletion-protected": Kind(409, "The ledger is protected against deletion"),
    "condition-failed": Kind(409, "What the transaction relies on has changed"),
    "key-statement-refused": Kind(409, "The statement about keys may not be made"),
    "system-ledger": Kind(403, "This ledger belongs to the cluster"),
    "already-erased": Kind(409, "Nothing is left to erase"),
    "ledger-limit": Kind(409, "The cluster holds as many ledgers as it may"),
    "member-exists": Kind(409, "There is another member with this id"),
    "member-retired": Kind(409, "The id belonged to a member that was removed, and is never used again"),
    "address-in-use": Kind(409, "Another member has this address"),
    "too-many-members": Kind(409, "The cluster has as many members as it may"),
    "last-voter": Kind(409, "The last voter of a cluster cannot be removed"),
    "member-not-caught-up": Kind(409, "The learner has not caught up yet"),
    "quorum-at-risk": Kind(409, "Too few voters would be left that can be reached"),
    "change-in-progress": Kind(409, "Another change of the membership is under way", True),
    "gone": Kind(410, "The document was deleted; its history stays readable"),
    "erased": Kind(410, "The content was erased"),
    "table-dropped": Kind(410, "The table was dropped; its history stays readable"),
    "version-mismatch": Kind(412, "The document is at another version"),
    "body-too-large": Kind(413, "The body is larger than allowed"),
    "unsupported-encoding": Kind(415, "The body is encoded in a way that is not supported"),
    "invalid-field": Kind(422, "A member of the body with a wrong value"),
    "erasure-too-large": Kind(422, "The erasure is larger than allowed"),
    "unsupported": Kind(422, "This server does not support what was asked for"),
    "idempotency-key-reused": Kind(422, "The Idempotency-Key belongs to another request"),
    "internal-error": Kind(500, "The server failed"),
    "not-a-member": Kind(503, "This node is not a member of a cluster", True),
    "leader-not-ready": Kind(503, "The leader was elected a moment ago and is not ready yet", True),
    "transfer-failed": Kind(503, "The leadership could not be handed over", True),
    "no-leader": Kind(503, "The cluster has no leader right now", True),
    "outcome-unknown": Kind(503, "Whether this was committed is not known", True),
    "overloaded": Kind(503, "The server has more work than it can take", True),
    "not-caught-up": Kind(503, "This node has not got the block yet", True),
    "not-sealed": Kind(503, "No seal covers this yet, so there is no proof of it", True),
    "not-cosigned": Kind(503, "So many replicas have not cosigned yet", True),
    "log-key-missing": Kind(503, "This node cannot sign for the log", True),
    "split-view": Kind(503, "A replica has cosigned another history than this node's", True),
    "shutting-down": Kind(503, "The server is shutting down", True),
}


class ProblemDocument(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"kind": "type"}):
    """The body of every error (RFC 9457, section 3.1, and members of our own)."""

    kind: Annotated[str, Meta(pattern="^urn:stele:problem:[a-z0-9-]+$")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    retryable: bool
    request_id: str | UnsetType = UNSET
    field: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    leader: str | UnsetType = UNSET
    tx: str | UnsetType = UNSET
    current_version: int | UnsetType = UNSET
    condition: int | UnsetType = UNSET
    proof: Annotated[msgspec.Raw | UnsetType, Meta(extra_json_schema={"type": "object"})] = UNSET
    erasure: int | UnsetType = UNSET


class Problem(Exception):
    """An error to answer. `slug` is a key of CATALOGUE; the rest goes into the document as it is."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        field: str | UnsetType = UNSET,
        limit: int | UnsetType = UNSET,
        leader: str | UnsetType = UNSET,
        tx: str | UnsetType = UNSET,
        current_version: int | UnsetType = UNSET,
        condition: int | UnsetType = UNSET,
        erasure: int | UnsetType = UNSET,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{slug}: {detail}")
        self.slug = slug
        self.kind = CATALOGUE[slug]
        self.detail = detail
        self.members: dict[str, Any] = {
            "field": field,
            "limit": limit,
            "leader": leader,
            "tx": tx,
            "current_version": current_version,
            "condition": condition,
            "erasure": erasure,
        }
        self.headers = headers or {}

    def with_proof(self, proof: bytes) -> Problem:
        """The same problem, with the proof that there is nothing to show."""
        self.members["proof"] = msgspec.Raw(proof)
        return self

    @property
    def status(self) -> int:
        return self.kind.status

    def document(self, request_id: str | UnsetType = UNSET) -> ProblemDocument:
        return ProblemDocument(
            kind=TYPE_PREFIX + self.slug,
            title=self.kind.title,
            status=self.kind.status,
            # A name in a message may hold half of a surrogate pair, which no JSON text can carry.
            detail=self.detail.encode("utf-8", "backslashreplace").decode(),
            retryable=self.kind.retryable,
            request_id=request_id,
            **self.members,
        )

    def encoded(self) -> bytes:
        """The document without a request id, for a line of a stream."""
        return _encoder.encode(self.document())

    def response(self, request_id: str) -> web.Response:
        response = web.Response(
            status=self.kind.status,
            body=_encoder.encode(self.document(request_id or UNSET)),
            headers={"Content-Type": CONTENT_TYPE, **self.headers},
        )
        if self.kind.retryable:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response


_encoder = msgspec.json.Encoder()
