"""What can go wrong, as types.

Every error of this package is a SteleError. An error that the server reported carries the problem
(RFC 9457) it sent; `error_of` chooses the class from the problem's type, and from the HTTP status
when the type is one this version does not know.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROBLEM_PREFIX = "urn:stele:problem:"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem+json body (RFC 9457) as the server sends it."""

    type: str
    title: str = ""
    status: int = 0
    detail: str = ""
    retryable: bool = False
    request_id: str = ""
    field: str | None = None
    limit: int | float | None = None
    leader: str | None = None
    tx: str | None = None
    current_version: int | None = None
    condition: int | None = None
    proof: dict[str, Any] | None = None
    erasure: int | None = None

    @property
    def slug(self) -> str:
        """The last part of the type, for example "version-mismatch"."""
        return self.type.removeprefix(PROBLEM_PREFIX)


class SteleError(Exception):
    """Base of everything this package raises on purpose.

    `problem` is what the server said, or None when the error was found on this side.
    `idempotency_key` is the key the write was sent with: the same call with this key settles an
    unknown outcome without writing twice.
    """

    def __init__(self, message: str, *, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.idempotency_key: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem is not None and self.problem.retryable


class Invalid(SteleError):
    """The request breaks a rule: a bad name, document, parameter or size. Sending it again cannot help."""


class NotFound(SteleError):
    """No such ledger, table, document, version, block or transaction."""


class Gone(NotFound):
    """The document or table existed and was deleted, erased or dropped."""


class Conflict(SteleError):
    """The state of the ledger refuses the request."""


class VersionMismatch(Conflict):
    """if_version or if_absent did not hold; problem.current_version says what is there."""


class ConditionFailed(Conflict):
    """A condition of a transaction did not hold; problem.condition is its index."""


class IdempotencyKeyReused(Conflict):
    """The same Idempotency-Key came earlier with another request."""


class DeletionProtected(Conflict):
    """The ledger refuses deletion until its protection is switched off."""


class Unavailable(SteleError):
    """No node could serve the request in time; nothing was written unless the class says otherwise."""

    @property
    def retryable(self) -> bool:
        return True


class OutcomeUnknown(Unavailable):
    """The write may or may not have been committed.

    Repeat it with `idempotency_key`, or ask Ledger.transaction(problem.tx) what became of it.
    """


class ServerFailed(SteleError):
    """The server reports an error of its own, or its answer makes no sense."""


class VerificationFailed(SteleError):
    """What the server answered does not follow from the checkpoint its key signed. Do not use it.

    `remembered` and `seen` are the two signed notes that contradict each other, where there are two:
    keep them, together they are evidence.
    """

    def __init__(self, message: str, *, remembered: str | None = None, seen: str | None = None) -> None:
        parts = [message]
        if remembered is not None:
            parts.append("remembered checkpoint:\n" + remembered.rstrip("\n"))
        if seen is not None:
            parts.append("checkpoint seen now:\n" + seen.rstrip("\n"))
        super().__init__("\n".join(parts))
        self.remembered = remembered
        self.seen = seen


class SplitView(VerificationFailed):
    """Two signed checkpoints that cannot belong to one append-only journal."""


class Rollback(VerificationFailed):
    """The server answered from a state older than one it has already signed and shown."""


class NotTrusted(VerificationFailed):
    """There is no trusted key for the ledger, or the server now shows another key than before."""


class MemoryDamaged(SteleError):
    """The file of remembered checkpoints cannot be read. It is never overwritten on its own."""


_CLASS_OF_SLUG: dict[str, type[SteleError]] = {
    "version-mismatch": VersionMismatch,
    "condition-failed": ConditionFailed,
    "idempotency-key-reused": IdempotencyKeyReused,
    "deletion-protected": DeletionProtected,
    "erasure-not-allowed": Conflict,
    "outcome-unknown": OutcomeUnknown,
    "no-leader": Unavailable,
    "transfer-failed": Unavailable,
}

_CLASS_OF_STATUS: dict[int, type[SteleError]] = {
    404: NotFound,
    410: Gone,
    409: Conflict,
    412: VersionMismatch,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(problem: Problem) -> SteleError:
    """The typed error for a problem the server sent."""
    kind = _CLASS_OF_SLUG.get(problem.slug) or _CLASS_OF_STATUS.get(problem.status)
    if kind is None:
        kind = Invalid if 400 <= problem.status < 500 else ServerFailed
    return kind(problem.detail or problem.title or problem.slug, problem=problem)


def parse_problem(status: int, body: bytes, request_id: str) -> Problem:
    """The problem in an error answer; one made from the status when the body is not a problem.

    A proxy in between answers with pages of its own, so anything may stand in the body.
    """
    try:
        return msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem(
            type=f"{PROBLEM_PREFIX}http-{status}",
            status=status,
            detail=f"the server answered with HTTP status {status} and no problem document",
            retryable=status in {429, 502, 503, 504},
            request_id=request_id,
        )
