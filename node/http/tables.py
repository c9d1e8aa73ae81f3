"""Tables of a ledger: create, list, get, drop."""

from __future__ import annotations

from node import limits
from node.http import schemas
from node.http.answers import WholeAnswer, answer_struct
from node.http.bodies import parse_struct, read_body
from node.http.failures import refusal
from node.http.parameters import ViewQuery
from node.http.problems import Problem
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import ANONYMOUS, Services
from node.http.views import typed_query, view_for
from storage.commands import CreateTable, DropTable
from storage.errors import TableUnknown
from storage.outcomes import Refused
from storage.view import TableInfo

_TABLES = "/v1/ledgers/{ledger}/tables"
_TABLE = _TABLES + "/{table}"


async def put_table(services: Services, call: Call) -> WholeAnswer:
    ledger, name = call.names
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    if body:
        _check_settings(body)
    stamps = services.stamps
    at = stamps.now_us()
    outcome = await services.committer.submit(
        CreateTable(ledger, name, stamps.transaction_id(at), at, ANONYMOUS, stamps.salt())
    )
    existed = isinstance(outcome, Refused) and outcome.reason == "table-exists"
    if isinstance(outcome, Refused) and not existed:
        raise refusal(outcome)
    return answer_struct(_described(_table(services, ledger, name)), status=200 if existed else 201)


def _check_settings(body: bytes) -> None:
    try:
        parse_struct(body, schemas.TableSettings, limits.SETTINGS_SIZE_BYTES_MAX)
    except Problem as problem:
        if (
            problem.slug == "invalid-field"
            and problem.members["field"] == "indexes"
            and "length" in problem.detail
        ):
            raise Problem(
                "unsupported", "this version has no indexes yet", field="indexes", limit=0
            ) from problem
        raise


async def list_tables(services: Services, call: Call) -> WholeAnswer:
    view = await view_for(services, call.names[0], typed_query(call, ViewQuery))
    return answer_struct(schemas.Tables(tables=[_described(info) for info in view.tables()]))


async def get_table(services: Services, call: Call) -> WholeAnswer:
    ledger, name = call.names
    view = await view_for(services, ledger, typed_query(call, ViewQuery))
    info = view.table(name)
    if info is None:
        raise TableUnknown(name)
    return answer_struct(_described(info))


async def delete_table(services: Services, call: Call) -> WholeAnswer:
    ledger, name = call.names
    stamps = services.stamps
    at = stamps.now_us()
    outcome = await services.committer.submit(
        DropTable(ledger, name, stamps.transaction_id(at), at, ANONYMOUS, stamps.salt())
    )
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    return answer_struct(_described(_table(services, ledger, name)))


def _table(services: Services, ledger: str, name: str) -> TableInfo:
    info = services.store.view(ledger).table(name)
    if info is None:
        raise TableUnknown(name)
    return info


def _described(info: TableInfo) -> schemas.Table:
    return schemas.Table(name=info.name, id=info.id, state=info.state, created_seq=info.created_seq)


_READ_PROBLEMS = ("ledger-unknown", "table-unknown", "not-found", "block-unknown", "not-caught-up")

ROUTES = (
    Route(
        "PUT",
        _TABLE,
        put_table,
        operation_id="putTable",
        summary="Create a table",
        tag="tables",
        leader="always",
        body=Content(JSON, schemas.TableSettings, required=False),
        answers={
            200: Answer("The table was there already.", Content(JSON, schemas.Table)),
            201: Answer("The table is created.", Content(JSON, schemas.Table)),
        },
        problems=(
            "ledger-unknown",
            "table-unknown",
            "unsupported",
        ),
    ),
    Route(
        "GET",
        _TABLES,
        list_tables,
        operation_id="listTables",
        summary="List the tables, dropped ones included",
        tag="tables",
        query=ViewQuery,
        answers={200: Answer("All tables, by name.", Content(JSON, schemas.Tables))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "GET",
        _TABLE,
        get_table,
        operation_id="getTable",
        summary="Describe a table",
        tag="tables",
        query=ViewQuery,
        answers={200: Answer("The table.", Content(JSON, schemas.Table))},
        problems=_READ_PROBLEMS,
    ),
    Route(
        "DELETE",
        _TABLE,
        delete_table,
        operation_id="deleteTable",
        summary="Drop a table; its history stays readable",
        tag="tables",
        leader="always",
        answers={200: Answer("The table is dropped.", Content(JSON, schemas.Table))},
        problems=("ledger-unknown", "table-unknown", "table-dropped"),
    ),
)
