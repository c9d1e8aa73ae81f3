"""Bulk loads: streaming both ways, in order, resumable, bounded."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from node import limits
from tests.node.served import Answer, ServedNode


def load(
    node: ServedNode,
    ledger: str,
    lines: Iterable[bytes | dict[str, Any]],
    key: str | None = None,
    **headers: str,
) -> Answer:
    body = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    if key is not None:
        headers["Idempotency-Key"] = key
    return node.ask("POST", f"/v1/ledgers/{ledger}/bulk?table=cars", body, headers)


def acknowledgements(answer: Answer) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    *lines, done = [json.loads(line) for line in answer.body.splitlines()]
    return lines, done


def slug_of(line: dict[str, Any]) -> str:
    return str(line["error"]["type"]).removeprefix("urn:stele:problem:")


def documents(node: ServedNode, ledger: str) -> dict[str, Any]:
    found = node.ask("GET", f"/v1/ledgers/{ledger}/tables/cars/documents?limit=1000").json["documents"]
    return {document["key"]: document["data"] for document in found}


def test_lines_are_acknowledged_in_order(node: ServedNode, ledger: str) -> None:
    lines, done = acknowledgements(
        load(node, ledger, ({"key": f"k{n}", "data": {"n": n}} for n in range(1200)))
    )
    assert [(line["line"], line["key"], line["version"]) for line in lines] == [
        (n + 1, f"k{n}", 0) for n in range(1200)
    ]
    assert done == {"done": True, "accepted": 1200, "refused": 0}
    assert len({line["seq"] for line in lines}) == 3  # A block a chunk.
    assert node.ask("GET", f"/v1/ledgers/{ledger}/tables/cars/documents/k1199").json["data"] == {"n": 1199}


def test_bad_lines_are_refused_and_the_others_go_on(node: ServedNode, ledger: str) -> None:
    lines, done = acknowledgements(
        load(
            node,
            ledger,
            [
                {"key": "a", "data": {"n": 1}},
                b'{"key":"b","data":{"n":NaN}}',
                b'{"key":"b","key":"b","data":{}}',
                b"nonsense",
                b"[]",
                {"key": "b/b", "data": {}},
                {"key": 7, "data": {}},
                {"key": "b", "data": []},
                {"key": "b"},
                {"key": "b", "data": {}, "colour": "red"},
                {"key": "b", "data": {}, "op": "drop"},
                {"key": "b", "data": {}, "op": "delete"},
                {"op": "delete"},
                {"key": "b", "data": {}, "table": "nowhere"},
                {"key": "b", "data": {}, "table": "no where"},
                {"key": "b", "data": {}, "table": None},
                b'{"key":"b","data":{"a":"\xff"}}',
                {"key": "c", "data": {"n": 2}},
            ],
        )
    )
    assert [line["line"] for line in lines] == list(range(1, 19))
    assert [slug_of(line) if "error" in line else line["key"] for line in lines] == [
        "a",
        "invalid-number",
        "duplicate-member",
        "invalid-json",
        "not-an-object",
        "invalid-name",
        "invalid-field",
        "invalid-field",
        "invalid-field",
        "invalid-field",
        "invalid-field",
        "invalid-field",
        "invalid-field",
        "table-unknown",
        "invalid-name",
        "invalid-field",
        "invalid-utf8",
        "c",
    ]
    assert done == {"done": True, "accepted": 2, "refused": 16}
    assert documents(node, ledger) == {"a": {"n": 1}, "c": {"n": 2}}


def test_a_line_too_long_is_refused_and_not_kept(node: ServedNode, ledger: str) -> None:
    long = b'{"key":"b","data":{"x":"' + b"a" * limits.BULK_LINE_SIZE_BYTES_MAX + b'"}}'
    largest = {"key": "c", "data": {"x": "a" * ((1 << 20) - len('{"x":""}'))}}
    over = {"key": "d", "data": {"x": "a" * ((1 << 20) - len('{"x":""}') + 1)}}
    lines, done = acknowledgements(load(node, ledger, [{"key": "a", "data": {}}, long, largest, over, long]))
    assert [slug_of(line) if "error" in line else line["key"] for line in lines] == [
        "a",
        "body-too-large",
        "c",
        "body-too-large",
        "body-too-large",
    ]
    assert done["refused"] == 3


def test_deletes_stand_alone_so_that_a_missing_document_refuses_nobody_else(
    node: ServedNode, ledger: str
) -> None:
    lines, done = acknowledgements(
        load(
            node,
            ledger,
            [
                {"key": "a", "data": {"n": 1}},
                {"key": "missing", "op": "delete"},
                {"key": "a", "op": "delete"},
                {"key": "b", "data": {"n": 2}},
            ],
        )
    )
    assert slug_of(lines[1]) == "not-found"
    assert (lines[2]["key"], lines[2]["version"]) == ("a", 1)
    assert done == {"done": True, "accepted": 3, "refused": 1}
    assert documents(node, ledger) == {"b": {"n": 2}}


def test_lines_of_one_key_keep_their_order(node: ServedNode, ledger: str) -> None:
    lines, _ = acknowledgements(load(node, ledger, ({"key": "a", "data": {"n": n}} for n in range(1100))))
    assert [line["version"] for line in lines] == list(range(1100))
    assert documents(node, ledger) == {"a": {"n": 1099}}


def test_lines_without_a_key_get_one_and_blank_lines_nothing(node: ServedNode, ledger: str) -> None:
    lines, done = acknowledgements(load(node, ledger, [{"data": {"n": 1}}, b"", {"data": {"n": 2}}]))
    assert [line["line"] for line in lines] == [1, 3]
    assert done["accepted"] == 2
    assert set(documents(node, ledger)) == {line["key"] for line in lines}


def test_the_last_line_needs_no_line_feed_and_none_is_a_load_too(node: ServedNode, ledger: str) -> None:
    answer = node.ask("POST", f"/v1/ledgers/{ledger}/bulk", b'{"table":"cars","key":"a","data":{}}')
    assert acknowledgements(answer)[1]["accepted"] == 1
    assert acknowledgements(load(node, ledger, []))[1] == {"done": True, "accepted": 0, "refused": 0}


def test_a_load_is_resumed_under_its_key(node: ServedNode, ledger: str) -> None:
    lines = [{"key": f"k{n}", "data": {"n": n}} for n in range(700)]
    lines[350] = {"key": "bad/", "data": {}}
    first, _ = acknowledgements(load(node, ledger, lines[:600], key="load-1"))
    size = node.size(ledger)
    again, done = acknowledgements(load(node, ledger, lines, key="load-1"))
    assert [line["line"] for line in again] == list(range(1, 701))
    assert all(line.get("duplicate") for line in again[:600] if line["line"] != 351)
    assert slug_of(again[350]) == "invalid-name"
    assert [line["key"] for line in again[600:]] == [f"k{n}" for n in range(600, 700)]
    assert all(line["version"] == 0 for line in again[600:])
    assert done == {"done": True, "accepted": 699, "refused": 1}
    assert node.size(ledger) == size + 1
    assert len(first) == 600


def test_a_load_is_resumed_from_a_line_in_the_middle(node: ServedNode, ledger: str) -> None:
    lines = [{"key": f"k{n}", "data": {"n": n}} for n in range(20)]
    load(node, ledger, lines[:10], key="load-1")
    answer = load(node, ledger, lines[8:], key="load-1", **{"Stele-First-Line": "9"})
    resumed, done = acknowledgements(answer)
    assert [line["line"] for line in resumed] == list(range(9, 21))
    assert [line.get("duplicate", False) for line in resumed] == [True] * 2 + [False] * 10
    assert done["accepted"] == 12


def test_a_key_of_another_request_ends_the_load(node: ServedNode, ledger: str) -> None:
    node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/a", {"n": 1}, {"Idempotency-Key": "k1"})
    lines, done = acknowledgements(load(node, ledger, [{"key": "b", "data": {}}], key="k1"))
    assert slug_of(lines[0]) == "idempotency-key-reused"
    assert done["done"] is False
    assert documents(node, ledger) == {"a": {"n": 1}}


@pytest.mark.parametrize(
    ("path", "headers", "slug"),
    [
        ("nowhere/bulk", {}, "ledger-unknown"),
        ("{}/bulk?table=a%2Fb", {}, "invalid-parameter"),
        ("{}/bulk?tables=a", {}, "unknown-parameter"),
        ("{}/bulk", {"Idempotency-Key": "a b"}, "invalid-header"),
        ("{}/bulk", {"Stele-First-Line": "0"}, "invalid-header"),
    ],
)
def test_what_is_wrong_with_the_load_itself_is_a_problem(
    node: ServedNode, ledger: str, path: str, headers: dict[str, str], slug: str
) -> None:
    assert node.ask("POST", f"/v1/ledgers/{path.format(ledger)}", b"", headers).slug == slug


class Stream:
    """A load of which a test sends and reads what it likes, when it likes."""

    def __init__(self, node: ServedNode, ledger: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=60)
        self.socket.sendall(
            f"POST /v1/ledgers/{ledger}/bulk?table=cars HTTP/1.1\r\nHost: x\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        self.received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def send_times(self, data: bytes, times: int) -> None:
        for _ in range(times):
            self.send(data)

    def until(self, wanted: bytes) -> None:
        while wanted not in self.received:
            piece = self.socket.recv(65536)
            assert piece, "the stream ended"
            self.received += piece


def test_lines_are_acknowledged_while_the_sender_pauses(node: ServedNode, ledger: str) -> None:
    stream = Stream(node, ledger)
    for n in range(1, 4):
        stream.send(b'{"key":"k%d","data":{}}\n{"key":"ha' % n)
        stream.until(b'"line":%d,' % (2 * n - 1))
        stream.send(b'lf-%d","data":{}}\n' % n)
        stream.until(b'"key":"half-%d"' % n)
    stream.socket.sendall(b"0\r\n\r\n")
    stream.until(b'{"done":true,"accepted":6,"refused":0}')
    stream.socket.close()


def test_a_load_that_breaks_off_keeps_what_was_acknowledged_and_nothing_of_the_half_line(
    node: ServedNode, ledger: str
) -> None:
    stream = Stream(node, ledger)
    stream.send(b'{"key":"a","data":{"n":1}}\n')
    stream.until(b'"line":1,')
    stream.send(b'{"key":"b","data":{}}')
    stream.socket.close()
    node.until_idle()
    assert documents(node, ledger) == {"a": {"n": 1}}


def test_a_sender_who_stops_in_the_middle_learns_what_became_of_the_lines_before(
    node: ServedNode, ledger: str
) -> None:
    lines = b"".join(b'{"key":"k%d","data":{}}\n' % n for n in range(limits.BULK_CHUNK_LINES_MAX))
    head = f"POST /v1/ledgers/{ledger}/bulk?table=cars HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    answer = node.raw(head.encode() + lines + b'{"key":"half","da', half_close=True)
    assert answer.count(b'"version":0') == limits.BULK_CHUNK_LINES_MAX
    assert b'{"done":false,"accepted":500,"refused":0,"error":' in answer
    assert b"urn:stele:problem:incomplete-body" in answer
    assert node.ask("GET", f"/v1/ledgers/{ledger}/tables/cars/documents/half").slug == "not-found"


def test_a_sender_who_takes_no_acknowledgements_is_made_to_wait(node: ServedNode, ledger: str) -> None:
    """The server must stop reading; otherwise it would keep the whole load or its answers in memory."""
    stream = Stream(node, ledger)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.socket.settimeout(2)
    lines = b"".join(b'{"key":"key-%d","data":{}}\n' % n for n in range(2000))
    with pytest.raises(TimeoutError):
        stream.send_times(lines, (256 << 20) // len(lines))
    stream.socket.close()
    node.until_idle()
