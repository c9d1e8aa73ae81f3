"""Transactions: several documents in one block, all or nothing."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from node import limits
from node.http import schemas
from node.http.answers import WholeAnswer, answer_struct
from node.http.bodies import document_problem, parse_struct, read_body
from node.http.parameters import Query
from node.http.preconditions import idempotency_key, request_digest
from node.http.problems import Problem
from node.http.route import IDEMPOTENCY_KEY, JSON, Answer, Call, Content, Route
from node.http.services import ANONYMOUS, Services
from node.http.writes import REPLAYED, refused_problem
from stele.format.canonical import parse_object
from stele.format.errors import CanonicalError, InvalidName
from stele.format.names import check_document_key, check_table_name
from stele.format.times import format_time
from storage.commands import Condition, Operation, Transact
from storage.outcomes import Committed, Refused

_TRANSACTIONS = "/v1/ledgers/{ledger}/transactions"


async def post_transaction(services: Services, call: Call) -> WholeAnswer:
    (ledger,) = call.names
    body = await read_body(call, services.budget, limits.TRANSACTION_SIZE_BYTES_MAX)
    wanted, canonical = parse_struct(body, schemas.TransactionBody, limits.TRANSACTION_SIZE_BYTES_MAX)
    operations = tuple(
        [_operation(services, index, operation) for index, operation in enumerate(wanted.operations)]
    )
    conditions = tuple([_condition(wanted, index) for index in range(len(wanted.conditions))])
    repeat_key = idempotency_key(call)
    digest = b"" if repeat_key is None else request_digest(call, canonical)
    stamps = services.stamps
    at = stamps.now_us()
    read_seq = None if wanted.read_seq is UNSET else wanted.read_seq
    command = Transact(
        ledger,
        stamps.transaction_id(at),
        at,
        ANONYMOUS,
        operations,
        conditions,
        read_seq,
        repeat_key,
        digest,
    )
    outcome = await services.committer.submit(command)
    if isinstance(outcome, Refused):
        if outcome.reason == "version-mismatch":
            # 412 answers a header of the request; here the condition is a part of what was asked for.
            outcome = msgspec.structs.replace(outcome, reason="condition-failed")
        raise refused_problem(services, command, outcome)
    if not isinstance(outcome, Committed):
        raise TypeError(f"a transaction cannot have the outcome {type(outcome).__name__}")
    response = answer_struct(_committed(outcome, operations))
    if outcome.repeated:
        response.headers[REPLAYED] = "true"
    return response


def _committed(outcome: Committed, operations: tuple[Operation, ...]) -> schemas.TransactionAnswer:
    return schemas.TransactionAnswer(
        tx=outcome.tx.hex(),
        seq=outcome.seq,
        at=format_time(outcome.at),
        revisions=[
            schemas.RevisionMade(table=operation.table, key=operation.key, version=version)
            for operation, version in zip(operations, outcome.versions, strict=True)
        ],
    )


def _operation(services: Services, index: int, operation: schemas.PutBody | schemas.DeleteBody) -> Operation:
    field = f"operations[{index}]"
    _check_names(field, operation.table, operation.key)
    salt = services.stamps.salt()
    if isinstance(operation, schemas.DeleteBody):
        return Operation("delete", operation.table, operation.key, b"", salt)
    try:
        # The members were read and checked already; this gives the document its own canonical bytes.
        _, payload = parse_object(msgspec.json.encode(operation.data), limits.DOCUMENT_SIZE_BYTES_MAX)
    except CanonicalError as error:
        problem = document_problem(error, limits.DOCUMENT_SIZE_BYTES_MAX)
        problem.members["field"] = f"{field}.data"
        raise problem from error
    return Operation("put", operation.table, operation.key, payload, salt)


def _condition(wanted: schemas.TransactionBody, index: int) -> Condition:
    condition = wanted.conditions[index]
    field = f"conditions[{index}]"
    key = None if condition.key is UNSET else condition.key
    prefix = None if condition.prefix is UNSET else condition.prefix
    _check_names(field, condition.table, key)
    if key is not None and prefix is not None:
        raise Problem("invalid-field", f"{field}: key and prefix exclude each other", field=field)
    if condition.version is not UNSET:
        if key is None:
            raise Problem("invalid-field", f"{field}: version needs a key", field=field)
        if condition.version is None:
            return Condition(condition.table, key, None, None, "absent")
        return Condition(condition.table, key, None, condition.version, "version")
    if wanted.read_seq is UNSET:
        raise Problem(
            "invalid-field", f"{field} means unchanged since read_seq, which is missing", field="read_seq"
        )
    return Condition(condition.table, key, prefix, None, "unchanged")


def _check_names(field: str, table: str, key: str | None) -> None:
    try:
        check_table_name(table)
        if key is not None:
            check_document_key(key)
    except InvalidName as error:
        raise Problem("invalid-field", f"{field}: {error}", field=f"{field}.{error.field}") from error


async def get_transaction(services: Services, call: Call) -> WholeAnswer:
    """What became of a transaction. `unknown` is final for one that was proposed before the question."""
    ledger, text = call.names
    tx = bytes.fromhex(text)
    await services.reads.strong()
    found = services.store.transaction(ledger, tx)
    if found is None:
        # It may be in the log and not committed yet. Once what is proposed now has been applied, it
        # either was applied before, or never will be.
        await services.committer.settle()
        found = services.store.transaction(ledger, tx)
    if isinstance(found, Committed):
        return answer_struct(schemas.TransactionStatus(tx=text, status="committed", seq=found.seq))
    if isinstance(found, Refused):
        return answer_struct(schemas.TransactionStatus(tx=text, status="refused", reason=found.reason))
    return answer_struct(schemas.TransactionStatus(tx=text, status="unknown"))


ROUTES = (
    Route(
        "POST",
        _TRANSACTIONS,
        post_transaction,
        operation_id="postTransaction",
        summary="Write and delete several documents in one block, if the conditions hold",
        tag="transactions",
        leader="always",
        query=Query,
        headers=(IDEMPOTENCY_KEY,),
        body=Content(JSON, schemas.TransactionBody),
        answers={200: Answer("The transaction is committed.", Content(JSON, schemas.TransactionAnswer))},
        problems=(
            "ledger-unknown",
            "table-unknown",
            "table-dropped",
            "not-found",
            "gone",
            "condition-failed",
            "invalid-header",
            "idempotency-key-reused",
        ),
    ),
    Route(
        "GET",
        _TRANSACTIONS + "/{tx}",
        get_transaction,
        operation_id="getTransaction",
        summary="What became of a transaction",
        tag="transactions",
        answers={200: Answer("Committed, refused or unknown.", Content(JSON, schemas.TransactionStatus))},
        problems=("ledger-unknown",),
    ),
)
