"""The description of the API agrees with the route table and with what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis

import node as node_package
from node.http.openapi import build_document
from node.http.problems import CATALOGUE, Problem
from node.http.routes import ROUTES
from tests.node.served import ServedNode

DOCUMENT = json.loads(json.dumps(build_document(ROUTES, version="1")))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


def test_every_route_is_described_once() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    identifiers = [
        operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()
    ]
    assert len(set(identifiers)) == len(identifiers) == len(ROUTES)


def test_every_reference_leads_somewhere() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert (
                    value["$ref"].removeprefix("#/components/schemas/") in DOCUMENT["components"]["schemas"]
                )
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(DOCUMENT)


def test_the_document_is_valid_openapi() -> None:
    SCHEMA.validate()


def test_the_served_document_is_the_generated_one(node: ServedNode) -> None:
    expected = build_document(ROUTES, version=node_package.__version__)
    assert node.ask("GET", "/openapi.json").json == json.loads(json.dumps(expected))


@pytest.mark.parametrize("slug", CATALOGUE)
def test_every_problem_is_a_full_document(slug: str) -> None:
    response = Problem(slug, "because").response("r1")
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    assert document["type"] == f"urn:stele:problem:{slug}"
    assert document["status"] == response.status == CATALOGUE[slug].status
    assert ("Retry-After" in response.headers) == document["retryable"]


def test_a_detail_that_no_json_can_carry_is_escaped() -> None:
    assert json.loads(Problem("invalid-name", "key \udcff").encoded())["detail"] == "key \\udcff"
