"""From the errors of the parts below to the problems that are answered."""

from __future__ import annotations

from msgspec import UNSET

from consensus.errors import ConsensusError, NotLeader, OutcomeUnknown, TooManyProposals, TransferFailed
from consensus.membership import MembershipInvalid, MembershipRefused
from node import limits
from node.checkpoints import LogKeyMissing
from node.committer import CommandTooLarge, CommitUnknown, Overloaded, ShuttingDown
from node.http.problems import Problem
from node.membership import ChangeInProgress
from node.reads import NotCaughtUp
from storage.errors import BlockUnknown, LedgerUnknown, NotSealed, TableDropped, TableUnknown
from storage.outcomes import Refused

_SLUGS: dict[type[Exception], str] = {
    LedgerUnknown: "ledger-unknown",
    TableUnknown: "table-unknown",
    TableDropped: "table-dropped",
    BlockUnknown: "block-unknown",
    NotCaughtUp: "not-caught-up",
    ChangeInProgress: "change-in-progress",
    NotSealed: "not-sealed",
    LogKeyMissing: "log-key-missing",
    Overloaded: "overloaded",
    TooManyProposals: "overloaded",
    MembershipInvalid: "invalid-field",
    ShuttingDown: "shutting-down",
    TransferFailed: "transfer-failed",
}

_REFUSALS = {
    "document-missing": "not-found",
    "table-exists": "condition-failed",
    "revision-unknown": "not-found",
}
"""Reasons of a refusal whose problem has another name."""


_MEMBERSHIP_REFUSALS = {"not-caught-up": "member-not-caught-up", "not-ready": "leader-not-ready"}
"""Reasons why a change of the membership is refused whose problem has another name."""


def problem_of(error: Exception) -> Problem | None:
    """The problem for an error that is expected to happen; None for one that is not."""
    if isinstance(error, Problem):
        return error
    slug = _SLUGS.get(type(error))
    if slug is not None:
        return Problem(slug, str(error))
    if isinstance(error, NotLeader):
        return Problem("no-leader", str(error), leader=error.leader_id or UNSET)
    if isinstance(error, MembershipRefused):
        return Problem(_MEMBERSHIP_REFUSALS.get(error.reason, error.reason), str(error))
    if isinstance(error, OutcomeUnknown):
        return Problem("outcome-unknown", str(error))
    if isinstance(error, CommitUnknown):
        return Problem("outcome-unknown", str(error), tx=error.tx.hex() if error.tx else UNSET)
    if isinstance(error, CommandTooLarge):
        return Problem("body-too-large", str(error), limit=limits.COMMAND_SIZE_BYTES_MAX)
    if isinstance(error, ConsensusError):
        return Problem("no-leader", str(error))
    return None


def refusal(refused: Refused, tx: bytes | None = None) -> Problem:
    """The problem for a command that the state machine refused, and may be asked about under `tx`."""
    slug = _REFUSALS.get(refused.reason, refused.reason)
    if refused.reason == "document-missing" and refused.current_version is not None:
        slug = "gone"
    return Problem(
        slug,
        refused.detail,
        tx=UNSET if tx is None else tx.hex(),
        condition=UNSET if refused.condition is None else refused.condition,
        current_version=UNSET if refused.current_version is None else refused.current_version,
    )
