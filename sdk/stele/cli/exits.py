"""Exit codes, which scripts may rely on, and the one line an error becomes."""

from __future__ import annotations

import enum
import sys

from stele.client import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    SteleError,
    Unavailable,
    VerificationFailed,
)
from stele.verify.errors import VerificationError


class Exit(enum.IntEnum):
    """What each exit code says; 4 is a refusal by the state of the ledger, such as a failed condition."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAVAILABLE = 5
    VERIFICATION_FAILED = 6
    INTERRUPTED = 130


class UsageError(Exception):
    """Arguments that do not fit together."""


class InputError(Exception):
    """A file or standard input that cannot be used."""


def exit_of(error: Exception) -> Exit:
    """The exit code an error ends the command with."""
    match error:
        case UsageError():
            return Exit.USAGE
        case NotFound():
            return Exit.NOT_FOUND
        case Conflict():
            return Exit.REFUSED
        case Unavailable():
            return Exit.UNAVAILABLE
        case VerificationFailed() | VerificationError():
            return Exit.VERIFICATION_FAILED
        case _:
            return Exit.ERROR


def describe(error: Exception) -> str:
    """One clear line, with the request id where there is one; a failed verification shows its evidence."""
    text = str(error)
    if isinstance(error, VerificationFailed | VerificationError):
        return f"VERIFICATION FAILED: {text}"
    notes: list[str] = []
    if isinstance(error, SteleError) and error.problem is not None:
        problem = error.problem
        if problem.current_version is not None:
            notes.append(f"current version {problem.current_version}")
        if problem.tx is not None:
            notes.append(f"transaction {problem.tx}")
        if problem.request_id:
            notes.append(f"request {problem.request_id}")
    if isinstance(error, OutcomeUnknown) and error.idempotency_key is not None:
        notes.append(f"repeat with --idempotency-key {error.idempotency_key}")
    line = " ".join(text.split())
    return f"{line} ({', '.join(notes)})" if notes else line


def complain(text: str) -> None:
    """Says something on standard error."""
    sys.stderr.write(f"stele: {text}\n")
    sys.stderr.flush()
