"""Bodies that are too large, half sent or no HTTP at all: nothing written, and nobody waits for ever."""

from __future__ import annotations

import gzip
import socket

import pytest

from node.limits import READ_BUFFER_SIZE_BYTES
from tests.node.served import Answer, ServedNode

LIMIT = 1 << 20


def answer_of(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, body)


def test_a_body_too_large_is_refused_before_it_is_sent(node: ServedNode, unwritten: str) -> None:
    head = (
        f"PUT /v1/ledgers/{unwritten}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = answer_of(node.raw(head.encode()))
    assert (answer.status, answer.slug, answer.json["limit"]) == (413, "body-too-large", LIMIT)


def test_a_body_without_a_length_is_refused_at_the_limit(node: ServedNode, unwritten: str) -> None:
    head = (
        f"PUT /v1/ledgers/{unwritten}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(head + chunk * (LIMIT // 0x10000 + 1))
        answer = answer_of(connection.recv(65536))
    assert (answer.status, answer.slug, answer.headers["Connection"]) == (413, "body-too-large", "close")


def test_expect_100_continue_is_answered(node: ServedNode, ledger: str) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(
            f"PUT /v1/ledgers/{ledger}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 7\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"n":1}')
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 Created\r\n")


def hangs_up(connection: socket.socket) -> bool:
    """Whether the other side ends the connection without a word."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_one_connection_too_many_is_closed(node: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.until_idle()
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as first:
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr("node.limits.CONNECTIONS_MAX", 0)
        with socket.create_connection(("127.0.0.1", node.port), timeout=60) as second:
            assert hangs_up(second)
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b'{"n"', b'{"n":1}'])
def test_a_half_sent_body_writes_nothing(node: ServedNode, unwritten: str, sent: bytes) -> None:
    answer = answer_of(
        node.raw(
            f"PUT /v1/ledgers/{unwritten}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 100\r\n\r\n".encode()
            + sent,
            half_close=True,
        )
    )
    assert (answer.status, answer.slug) == (400, "incomplete-body")


def test_a_half_sent_chunked_body_writes_nothing(node: ServedNode, unwritten: str) -> None:
    answer = answer_of(
        node.raw(
            f"PUT /v1/ledgers/{unwritten}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
            'Transfer-Encoding: chunked\r\n\r\n7\r\n{"n":1}\r\n'.encode(),
            half_close=True,
        )
    )
    assert (answer.status, answer.slug) == (400, "incomplete-body")


def test_who_stops_sending_gets_the_answers_to_what_was_sent(node: ServedNode, ledger: str) -> None:
    request = (
        f"PUT /v1/ledgers/{ledger}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
        'Content-Length: 7\r\n\r\n{"n":1}'
    ).encode()
    answers = node.raw(request * 3, half_close=True)
    assert [answers.count(status) for status in (b"HTTP/1.1 201", b"HTTP/1.1 200")] == [1, 2]
    assert node.raw(b"", half_close=True) == b""
    assert node.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li", half_close=True).count(b"HTTP/1.1") == 1


def test_a_body_in_more_chunks_than_are_kept_is_read_to_its_end(node: ServedNode, ledger: str) -> None:
    """aiohttp stops reading amid them, and has to go on, for this request and the one behind it."""
    head = f"PUT /v1/ledgers/{ledger}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n".encode()
    chunks = b"1\r\n \r\n" * READ_BUFFER_SIZE_BYTES + b'7\r\n{"n":1}\r\n0\r\n\r\n'
    answers = node.raw(
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        + head + b'Content-Length: 7\r\n\r\n{"n":1}'
        + head + b'Content-Length: 7\r\nConnection: close\r\n\r\n{"n":1}'
    )  # fmt: skip
    assert [answers.count(status) for status in (b"HTTP/1.1 201", b"HTTP/1.1 200")] == [1, 2]


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: "])
def test_a_connection_without_a_request_is_closed(
    node: ServedNode, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("node.limits.KEEPALIVE_TIMEOUT_S", 0.05)
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(sent)
        assert hangs_up(connection)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-nonsense"])
def test_a_compressed_body_is_refused(node: ServedNode, unwritten: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    for method, path in (("PUT", "tables/cars/documents/there"), ("POST", "bulk")):
        answer = node.ask(method, f"/v1/ledgers/{unwritten}/{path}", gzip.compress(b'{"n":1}'), headers)
        assert (answer.status, answer.slug) == (415, "unsupported-encoding")
        assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("limit", ["BODY_TIMEOUT_S", "BODY_DEADLINE_S"])
def test_a_body_that_stops_coming_is_given_up(
    node: ServedNode, unwritten: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"node.limits.{limit}", 0.05)
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(
            f"PUT /v1/ledgers/{unwritten}/tables/cars/documents/there HTTP/1.1\r\nHost: x\r\n"
            'Content-Length: 100\r\n\r\n{"n"'.encode()
        )
        answer = answer_of(connection.recv(65536))
    assert (answer.status, answer.json["type"]) == (400, "urn:stele:problem:incomplete-body")


@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /v1/ledgers/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/ledgers/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_with_a_problem(node: ServedNode, request_: bytes) -> None:
    answer = answer_of(node.raw(request_))
    assert answer.status in (400, 413, 431)
    assert answer.headers["Server"] == "stele"
    assert answer.headers["Content-Type"] == "application/problem+json"
