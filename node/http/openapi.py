"""The OpenAPI 3.1 document, generated from the route table that also registers the handlers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from node.http.problems import CATALOGUE, CONTENT_TYPE, ProblemDocument
from node.http.route import JSON, Answer, Content, Route
from node.http.schemas import VALUE_SCHEMA
from stele.format.tiles import TILE_LEVEL_MAX

_REF_TEMPLATE = "#/components/schemas/{name}"
_PROBLEM_REF = {"$ref": "#/components/schemas/ProblemDocument"}

# Control characters and surrogates.
_NOT_IN_KEYS = r"\u0000-\u001f\u007f-\u009f\ud800-\udfff"

_NAME_SCHEMAS: dict[str, dict[str, Any]] = {
    "ledger": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,62}$", "example": "sample"},
    "table": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,62}$", "example": "vehicles"},
    "key": {
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "pattern": rf"^[^./{_NOT_IN_KEYS}][^/{_NOT_IN_KEYS}]*$",
        "description": "1 to 512 bytes of UTF-8 without control characters or '/', and not '.' or '..'.",
        "example": "1CASTELL000000001",
    },
    "seq": {"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1},
    "tx": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "member": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", "example": "n3"},
    "tile_level": {"type": "integer", "minimum": 0, "maximum": TILE_LEVEL_MAX},
    "tile": {
        "type": "string",
        "pattern": r"^(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?$",
        "description": "Index in groups of three digits, and the width of a partial tile; holds slashes.",
        "example": "x001/x234/067.p/5",
    },
}

_ALWAYS = (
    "bad-request",
    "invalid-parameter",
    "unknown-parameter",
    "cross-origin",
    "internal-error",
    "overloaded",
    "no-leader",
)
_WRITING = ("outcome-unknown", "shutting-down")
_READING_JSON = (
    "invalid-json",
    "duplicate-member",
    "invalid-number",
    "invalid-utf8",
    "nesting-too-deep",
    "not-an-object",
    "incomplete-body",
    "body-too-large",
)


def build_document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """The whole document, as JSON-like values."""
    structs: list[Any] = [ProblemDocument]
    for route in routes:
        contents = [answer.content for answer in route.answers.values()]
        structs += [content.struct for content in (*contents, route.body) if content and content.struct]
        structs.append(route.query)
    _, components = msgspec.json.schema_components(list(dict.fromkeys(structs)), ref_template=_REF_TEMPLATE)
    queries = {route.query.__name__: components[route.query.__name__] for route in routes}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, queries)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stele",
            "version": version,
            "summary": "A replicated ledger database whose every answer can be proved.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": {
                "Value": VALUE_SCHEMA,
                **{name: schema for name, schema in components.items() if name not in queries},
            }
        },
    }


def _operation(route: Route, queries: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.tag],
    }
    if route.description:
        operation["description"] = route.description
    parameters = [
        *_path_parameters(route),
        *_query_parameters(queries[route.query.__name__]),
        *_headers(route),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": route.body.required, "content": _content(route.body)}
        if route.body.description:
            operation["requestBody"]["description"] = route.body.description
    answers = {str(status): _answer(answer) for status, answer in route.answers.items()}
    operation["responses"] = answers | _problems(route)
    return operation


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            name = segment[1:-1]
            yield {"name": name, "in": "path", "required": True, "schema": _NAME_SCHEMAS[name]}


def _query_parameters(schema: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    required = schema.get("required", [])
    for name, described in schema.get("properties", {}).items():
        kept = {key: value for key, value in described.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": kept}
        if "description" in described:
            parameter["description"] = described["description"]
        yield parameter


def _headers(route: Route) -> Iterable[dict[str, Any]]:
    for header in route.headers:
        yield {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": {"type": "string", "pattern": header.pattern},
            "example": header.example,
        }


def _content(content: Content) -> dict[str, Any]:
    if content.struct is not None:
        schema: Mapping[str, Any] = {"$ref": _REF_TEMPLATE.format(name=content.struct.__name__)}
    else:
        schema = content.schema or {}
    return {content.media_type: {"schema": schema}}


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.content is not None:
        described["content"] = _content(answer.content)
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    return described


def _problems(route: Route) -> dict[str, Any]:
    """Responses for every problem a route can answer with, one a status."""
    slugs = [*_ALWAYS, *route.problems]
    if "{" in route.path:
        slugs += ["invalid-name"]
    if route.body is not None:
        slugs += ["unsupported-encoding"]
        slugs += _READING_JSON if route.body.media_type == JSON else ()
        slugs += ["invalid-field"] if route.body.struct is not None else ()
    if route.leader == "always":
        slugs += _WRITING
    by_status: dict[int, list[str]] = {}
    for slug in dict.fromkeys(slugs):
        by_status.setdefault(CATALOGUE[slug].status, []).append(slug)
    return {
        str(status): {
            "description": "; ".join(f"{slug}: {CATALOGUE[slug].title}" for slug in found),
            "content": {CONTENT_TYPE: {"schema": _PROBLEM_REF}},
        }
        for status, found in sorted(by_status.items())
    }
