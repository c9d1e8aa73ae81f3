"""What operators and their tools ask: health, version, metrics, and the description of the API."""

from __future__ import annotations

from importlib.resources import files

from aiohttp import web
from msgspec import UNSET

import node
from node.http import schemas
from node.http.answers import Response, WholeAnswer, answer, answer_struct
from node.http.problems import Problem
from node.http.route import JSON, TEXT, Answer, Call, Content, Route
from node.http.services import Services

API_VERSION = "v1"
_DOCS_PAGE = files("node.http").joinpath("docs.html").read_bytes()


async def get_livez(services: Services, call: Call) -> WholeAnswer:
    return answer_struct(schemas.Liveness())


async def get_readyz(services: Services, call: Call) -> WholeAnswer:
    """Ready: this node can serve requests, itself or through a leader it knows."""
    if services.draining:
        raise Problem("shutting-down", "the node is shutting down")
    if services.replica.membership.get(services.config.node_id) is None:
        raise Problem("not-a-member", "the node is in no cluster: it waits to be added, or was removed")
    if services.replica.leader_id is None:
        raise Problem("no-leader", "the node hears no leader")
    if services.signing.publishing.lacks_log_key():
        raise Problem("log-key-missing", "log_key_file does not hold the log's present key")
    outvoted = services.signing.split_view()
    if outvoted is not None:
        raise Problem("split-view", outvoted)
    about_disk = services.disk_watch.alarm()
    alarms = services.signing.alarms() + ([about_disk] if about_disk else [])
    return answer_struct(schemas.Readiness(alarms=alarms or UNSET))


async def get_version(services: Services, call: Call) -> WholeAnswer:
    return answer_struct(schemas.VersionAnswer(version=node.__version__, api=API_VERSION))


async def get_metrics(services: Services, call: Call) -> Response:
    return web.Response(
        body=services.metrics.exposition(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def get_openapi(services: Services, call: Call) -> WholeAnswer:
    return answer(services.openapi_document)


async def get_docs(services: Services, call: Call) -> Response:
    # Everything is in the page: nothing is fetched but the document it shows.
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    return web.Response(
        body=_DOCS_PAGE,
        headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy},
    )


_OPERATIONS = "operations"

ROUTES = (
    Route(
        "GET",
        "/livez",
        get_livez,
        operation_id="getLiveness",
        summary="Whether the process runs",
        tag=_OPERATIONS,
        answers={200: Answer("It does.", Content(JSON, schemas.Liveness))},
    ),
    Route(
        "GET",
        "/readyz",
        get_readyz,
        operation_id="getReadiness",
        summary="Whether the node can serve requests",
        tag=_OPERATIONS,
        answers={
            200: Answer("It can; `alarms` has what to look at even so.", Content(JSON, schemas.Readiness))
        },
        problems=("log-key-missing", "split-view"),
    ),
    Route(
        "GET",
        "/version",
        get_version,
        operation_id="getVersion",
        summary="Version of the server and of the API",
        tag=_OPERATIONS,
        answers={200: Answer("The versions.", Content(JSON, schemas.VersionAnswer))},
    ),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        operation_id="getMetrics",
        summary="Metrics in the text format of Prometheus",
        tag=_OPERATIONS,
        answers={200: Answer("The metrics.", Content(TEXT, schema={"type": "string"}))},
    ),
    Route(
        "GET",
        "/openapi.json",
        get_openapi,
        operation_id="getOpenapi",
        summary="This description of the API",
        tag=_OPERATIONS,
        answers={200: Answer("An OpenAPI 3.1 document.", Content(JSON, schema={"type": "object"}))},
    ),
    Route(
        "GET",
        "/docs",
        get_docs,
        operation_id="getDocs",
        summary="This description of the API, to browse",
        tag=_OPERATIONS,
        answers={
            200: Answer(
                "A page that needs nothing from elsewhere.", Content("text/html", schema={"type": "string"})
            )
        },
    ),
)
