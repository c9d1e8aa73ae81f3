"""Ledgers: create, settings, list, get, delete."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET

from node import limits
from node.http import schemas
from node.http.answers import Response, WholeAnswer, answer_struct
from node.http.bodies import parse_struct, read_body
from node.http.failures import refusal
from node.http.parameters import ReadQuery
from node.http.route import JSON, Answer, Call, Content, Route
from node.http.services import ANONYMOUS, Services
from node.http.views import fresh, typed_query
from node.key_journal import SYSTEM_LEDGER
from stele.format.times import format_time
from storage.commands import CreateLedger, DropLedger, SetLedger
from storage.errors import LedgerUnknown
from storage.outcomes import LedgerChanged, Refused
from storage.store import LedgerInfo

_LEDGERS = "/v1/ledgers"
_LEDGER = _LEDGERS + "/{ledger}"


async def put_ledger(services: Services, call: Call) -> WholeAnswer:
    """Create, or change the settings of one that is there. Protection is on unless it is said otherwise."""
    (name,) = call.names
    body = await read_body(call, services.budget, limits.SETTINGS_SIZE_BYTES_MAX)
    settings = schemas.LedgerSettings()
    if body:
        settings, _ = parse_struct(body, schemas.LedgerSettings, limits.SETTINGS_SIZE_BYTES_MAX)
    wanted = settings.deletion_protection
    stamps = services.stamps
    at = stamps.now_us()
    outcome = await services.committer.submit(
        CreateLedger(
            name,
            stamps.ledger_id(),
            stamps.transaction_id(at),
            at,
            ANONYMOUS,
            True if wanted is UNSET else wanted,
        )
    )
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    created = isinstance(outcome, LedgerChanged) and outcome.created
    if not created and wanted is not UNSET:
        changed = await services.committer.submit(SetLedger(name, wanted))
        if isinstance(changed, Refused):
            raise refusal(changed)
    return answer_struct(_described(services, _ledger(services, name)), status=201 if created else 200)


async def list_ledgers(services: Services, call: Call) -> WholeAnswer:
    query = typed_query(call, ReadQuery)
    if query.consistency == "strong":
        await services.reads.strong()
    return answer_struct(
        schemas.Ledgers(
            ledgers=[
                _described(services, info)
                for info in services.store.ledgers()
                if info.name != SYSTEM_LEDGER  # GET /v1/cluster/keys shows what is in it.
            ]
        )
    )


async def get_ledger(services: Services, call: Call) -> WholeAnswer:
    (name,) = call.names
    await fresh(services, name, typed_query(call, ReadQuery))
    return answer_struct(_described(services, _ledger(services, name)))


async def delete_ledger(services: Services, call: Call) -> Response:
    (name,) = call.names
    outcome = await services.committer.submit(DropLedger(name))
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    return web.Response(status=204)


def _ledger(services: Services, name: str) -> LedgerInfo:
    info = services.store.ledger(name)
    if info is None:
        raise LedgerUnknown(name)
    return info


def _described(services: Services, info: LedgerInfo) -> schemas.Ledger:
    return schemas.Ledger(
        name=info.name,
        id=info.id.hex(),
        size=info.size,
        created_at=format_time(info.created_at),
        deletion_protection=info.deletion_protection,
        verifier_key=services.checkpoints.verifier_key(info.name),
    )


ROUTES = (
    Route(
        "PUT",
        _LEDGER,
        put_ledger,
        operation_id="putLedger",
        summary="Create a ledger, or change its settings",
        tag="ledgers",
        leader="always",
        body=Content(JSON, schemas.LedgerSettings, required=False),
        answers={
            200: Answer("The ledger was there already.", Content(JSON, schemas.Ledger)),
            201: Answer("The ledger is created.", Content(JSON, schemas.Ledger)),
        },
        problems=(
            "ledger-limit",
            "ledger-unknown",
        ),
    ),
    Route(
        "GET",
        _LEDGERS,
        list_ledgers,
        operation_id="listLedgers",
        summary="List the ledgers",
        tag="ledgers",
        query=ReadQuery,
        answers={200: Answer("All ledgers, by name.", Content(JSON, schemas.Ledgers))},
    ),
    Route(
        "GET",
        _LEDGER,
        get_ledger,
        operation_id="getLedger",
        summary="Describe a ledger",
        tag="ledgers",
        query=ReadQuery,
        answers={200: Answer("The ledger.", Content(JSON, schemas.Ledger))},
        problems=("ledger-unknown", "block-unknown", "not-caught-up"),
    ),
    Route(
        "DELETE",
        _LEDGER,
        delete_ledger,
        operation_id="deleteLedger",
        summary="Delete a ledger, if its protection is off",
        tag="ledgers",
        leader="always",
        answers={204: Answer("The ledger is gone.")},
        problems=("ledger-unknown", "deletion-protected"),
    ),
)
