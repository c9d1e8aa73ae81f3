"""The head of an answer, as it stands on the wire, whatever the request makes of it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from node.http.answers import answer
from tests.node.served import ServedNode

REQUEST = "{method} /v1/ledgers/{ledger}/tables/cars/documents/k HTTP/{version}\r\nHost: x\r\n{headers}\r\n"


def ask(ledger: str, method: str = "GET", version: str = "1.1", headers: str = "") -> bytes:
    return REQUEST.format(method=method, ledger=ledger, version=version, headers=headers).encode()


def told(answered: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of the first answer, and that nothing is twice in its head."""
    head, _, body = answered.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return status, headers, body


@pytest.fixture
def written(node: ServedNode, ledger: str) -> str:
    assert node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/k", {"n": 1}).status == 201
    return ledger


@pytest.mark.parametrize(
    ("version", "headers", "connection"),
    [("1.1", "Connection: close\r\n", "close"), ("1.0", "", None)],
)
def test_a_connection_that_ends_says_so(
    node: ServedNode, written: str, version: str, headers: str, connection: str | None
) -> None:
    status, found, body = told(node.raw(ask(written, version=version, headers=headers)))
    assert status == f"HTTP/{version} 200 OK"
    assert found.get("Connection") == connection
    assert int(found["Content-Length"]) == len(body)


def test_answers_of_one_connection_come_one_after_the_other(node: ServedNode, written: str) -> None:
    last = ask(written, headers="Connection: close\r\n")
    answered = node.raw(ask(written) + ask(written, "HEAD") + last)
    status, first, rest = told(answered)
    assert status == "HTTP/1.1 200 OK"
    assert "Connection" not in first
    assert (first["Content-Type"], first["ETag"], first["Server"]) == ("application/json", '"0"', "stele")
    assert parsedate_to_datetime(first["Date"]).tzinfo is not None
    size = int(first["Content-Length"])
    _, second, third = told(rest[size:])
    assert (second["Content-Length"], second["ETag"]) == (first["Content-Length"], '"0"')
    _, found, body = told(third)
    assert found["Connection"] == "close"
    assert body == rest[:size]


async def test_no_header_breaks_the_head() -> None:
    response = answer(b"{}", status=201, location="/x\r\nX-Forged: 1")
    with pytest.raises(ValueError, match="line break"):
        response.head()
