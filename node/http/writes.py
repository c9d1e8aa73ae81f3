"""What every handler that writes has in common: commit a command, answer its outcome or its refusal."""

from __future__ import annotations

from node.http.answers import WholeAnswer, answer, written_body
from node.http.failures import refusal
from node.http.preconditions import idempotency_key, request_digest, write_conditions
from node.http.problems import Problem
from node.http.route import Call
from node.http.services import ANONYMOUS, Services
from storage.commands import Operation, Transact
from storage.errors import LedgerUnknown
from storage.outcomes import Committed, Outcome, Refused

REPLAYED = "Idempotent-Replayed"


def _committed(services: Services, command: Transact, outcome: Outcome) -> Committed:
    """The block of a transaction. Raises Problem when it was refused."""
    if isinstance(outcome, Committed):
        return outcome
    if isinstance(outcome, Refused):
        raise refused_problem(services, command, outcome)
    raise TypeError(f"a transaction cannot have the outcome {type(outcome).__name__}")


def refused_problem(services: Services, command: Transact, refused: Refused) -> Problem:
    """The problem of a refused transaction, with its id when GET …/transactions/{tx} knows it: a repeated
    refusal stands there under the id of the first one."""
    try:
        recorded = services.store.transaction(command.ledger, command.tx)
    except LedgerUnknown:
        recorded = None
    return refusal(refused, None if recorded is None else command.tx)


async def write_document(
    services: Services, call: Call, table: str, key: str, operation: Operation, body: bytes
) -> WholeAnswer:
    """Commit one revision of one document, under the preconditions and idempotency key of the request."""
    ledger = call.names[0]
    conditions = write_conditions(call, table, key)
    repeat_key = idempotency_key(call)
    digest = b"" if repeat_key is None else request_digest(call, body)
    stamps = services.stamps
    at = stamps.now_us()
    command = Transact(
        ledger,
        stamps.transaction_id(at),
        at,
        ANONYMOUS,
        (operation,),
        conditions,
        None,
        repeat_key,
        digest,
    )
    outcome = _committed(services, command, await services.committer.submit(command))
    version = outcome.versions[0]
    response = answer(
        written_body(ledger, table, key, version, outcome.seq, outcome.tx, outcome.at),
        status=201 if version == 0 else 200,
        etag=version,
    )
    if outcome.repeated:
        response.headers[REPLAYED] = "true"
    return response


def require_empty(body: bytes) -> None:
    """Raises Problem when a request that takes no body has one."""
    if body:
        raise Problem("invalid-field", "this request takes no body", limit=0)
