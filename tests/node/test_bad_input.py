"""Every kind of bad input: its own problem, and nothing written."""

from __future__ import annotations

import pytest

from tests.node.served import Answer, ServedNode

LIMIT = 1 << 20


def answer_of(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, body)


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"", 400, "invalid-json"),
        (b"{", 400, "invalid-json"),
        (b'{"a":1,}', 400, "invalid-json"),
        (b"{'a':1}", 400, "invalid-json"),
        (b'{"a":1} {"b":2}', 400, "invalid-json"),
        (b'{"a":01}', 400, "invalid-json"),
        (b'{"a":1,"a":2}', 400, "duplicate-member"),
        (b'{"a":{"b":1,"b":1}}', 400, "duplicate-member"),
        (b'{"a":1,"\\u0061":1}', 400, "duplicate-member"),
        (b'{"a":NaN}', 400, "invalid-number"),
        (b'{"a":Infinity}', 400, "invalid-number"),
        (b'{"a":-Infinity}', 400, "invalid-number"),
        (b'{"a":1e999}', 400, "invalid-number"),
        (b'{"a":9007199254740992}', 400, "invalid-number"),
        (b'{"a":-9007199254740992}', 400, "invalid-number"),
        (b'{"a":' + b"9" * 5000 + b"}", 400, "invalid-number"),
        (b'{"a":"\xff"}', 400, "invalid-utf8"),
        (b'{"a":"\xed\xa0\x80"}', 400, "invalid-utf8"),
        (b'{"a":"\\ud800"}', 400, "invalid-utf8"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", 400, "nesting-too-deep"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nesting-too-deep"),
        (b"[1]", 400, "not-an-object"),
        (b"1", 400, "not-an-object"),
        (b'"text"', 400, "not-an-object"),
        (b"null", 400, "not-an-object"),
        (b'{"x":"' + b"a" * LIMIT + b'"}', 413, "body-too-large"),
    ],
)
def test_a_bad_document_is_refused(
    node: ServedNode, unwritten: str, body: bytes, status: int, slug: str
) -> None:
    for method, path in (("PUT", "documents/there"), ("POST", "documents")):
        answer = node.ask(method, f"/v1/ledgers/{unwritten}/tables/cars/{path}", body)
        assert (answer.status, answer.slug) == (status, slug)
        assert not answer.json["retryable"]
        if status == 413:
            assert answer.json["limit"] == LIMIT


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/ledgers/{}/tables/cars/documents/a%2Fb", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/a%2fb", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/a%00b", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/a%0Ab", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/a%7F", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/%C2%80", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/%FF", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/%ED%A0%80", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/%2E", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/%2E%2E", "key"),
        ("/v1/ledgers/{}/tables/cars/documents/" + "k" * 513, "key"),
        ("/v1/ledgers/{}/tables/cars/documents/" + "%C3%A4" * 257, "key"),
        ("/v1/ledgers/{}/tables/9cars/documents/a", "table"),
        ("/v1/ledgers/{}/tables/ca%2Frs/documents/a", "table"),
        ("/v1/ledgers/{}/tables/$tables/documents/a", "table"),
        ("/v1/ledgers/{}/tables/" + "t" * 64 + "/documents/a", "table"),
        ("/v1/ledgers/{}%20/tables/cars/documents/a", "ledger"),
    ],
)
def test_a_bad_name_is_refused(node: ServedNode, unwritten: str, target: str, field: str) -> None:
    for method in ("PUT", "GET"):
        answer = node.ask(method, target.format(unwritten), b"{}" if method == "PUT" else None)
        assert (answer.status, answer.slug, answer.json["field"]) == (400, "invalid-name", field)


def test_an_escape_that_is_none_is_refused(node: ServedNode, unwritten: str) -> None:
    answer = node.ask("PUT", f"/v1/ledgers/{unwritten}/tables/cars/documents/a%zz", b"{}")
    assert (answer.status, answer.slug) == (400, "invalid-name")


def test_bytes_in_an_address_that_are_not_utf8_are_refused(node: ServedNode, unwritten: str) -> None:
    target = f"/v1/ledgers/{unwritten}/tables/cars/documents/".encode() + b"\xff"
    raw = node.raw(
        b"PUT " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert answer_of(raw).status == 400


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("/v1/ledgers/nowhere/tables/cars/documents/a", "ledger-unknown"),
        ("/v1/ledgers/{}/tables/nowhere/documents/a", "table-unknown"),
    ],
)
def test_unknown_ledgers_and_tables_are_404(node: ServedNode, unwritten: str, path: str, slug: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = node.ask(method, path.format(unwritten), b"{}" if method == "PUT" else None)
        assert (answer.status, answer.slug) == (404, slug)


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "3"},
        {"If-Match": '"x"'},
        {"If-Match": 'W/"3"'},
        {"If-Match": '"0", "1"'},
        {"If-Match": "*"},
        {"If-Match": '"-1"'},
        {"If-Match": '"01"'},
        {"If-Match": ""},
        {"If-None-Match": '"0"'},
        {"If-Match": '"0"', "If-None-Match": "*"},
    ],
)
def test_a_precondition_that_says_nothing_is_refused(
    node: ServedNode, unwritten: str, headers: dict[str, str]
) -> None:
    answer = node.ask("PUT", f"/v1/ledgers/{unwritten}/tables/cars/documents/there", {"n": 2}, headers)
    assert (answer.status, answer.slug) == (400, "bad-precondition")


@pytest.mark.parametrize("key", ["", "a b", "é", "k" * 256])
def test_a_bad_idempotency_key_is_refused(node: ServedNode, unwritten: str, key: str) -> None:
    headers = {"Idempotency-Key": key}
    answer = node.ask("PUT", f"/v1/ledgers/{unwritten}/tables/cars/documents/there", {"n": 2}, headers)
    assert (answer.status, answer.slug) == (400, "invalid-header")


@pytest.mark.parametrize(
    ("query", "slug", "field"),
    [
        ("asof_seq=1", "unknown-parameter", "asof_seq"),
        ("version=1&colour=red", "unknown-parameter", "colour"),
        ("version=x", "invalid-parameter", "version"),
        ("version=-1", "invalid-parameter", "version"),
        ("version=1.0", "invalid-parameter", "version"),
        ("version=1e1", "invalid-parameter", "version"),
        ("version=", "invalid-parameter", "version"),
        ("version=9007199254740992", "invalid-parameter", "version"),
        ("version=99999999999999999999999", "invalid-parameter", "version"),
        ("version=1&version=1", "invalid-parameter", "version"),
        ("consistency=eventual", "invalid-parameter", "consistency"),
        ("proof=yes", "invalid-parameter", "proof"),
        ("as_of=yesterday", "invalid-parameter", "as_of"),
        ("as_of=2026-13-01T00:00:00Z", "invalid-parameter", "as_of"),
    ],
)
def test_a_bad_query_parameter_is_refused(
    node: ServedNode, unwritten: str, query: str, slug: str, field: str
) -> None:
    answer = node.ask("GET", f"/v1/ledgers/{unwritten}/tables/cars/documents/there?{query}")
    assert (answer.status, answer.slug, answer.json["field"]) == (400, slug, field)


def test_a_write_with_query_parameters_is_refused(node: ServedNode, unwritten: str) -> None:
    answer = node.ask("PUT", f"/v1/ledgers/{unwritten}/tables/cars/documents/there?if_version=3", {"n": 2})
    assert (answer.status, answer.slug) == (400, "unknown-parameter")


@pytest.mark.parametrize(
    "query", ["%FF=1", "version", "limit=0&&limit=1", "&".join(f"p{n}=1" for n in range(40))]
)
def test_a_query_that_cannot_be_read_is_refused(node: ServedNode, unwritten: str, query: str) -> None:
    answer = node.ask("GET", f"/v1/ledgers/{unwritten}/tables/cars/documents?{query}")
    assert (answer.status, answer.slug) == (400, "invalid-parameter")


def test_a_limit_out_of_range_names_the_limit(node: ServedNode, unwritten: str) -> None:
    answer = node.ask("GET", f"/v1/ledgers/{unwritten}/tables/cars/documents?limit=1001")
    assert (answer.slug, answer.json["field"], answer.json["limit"]) == ("invalid-parameter", "limit", 1000)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_site_is_refused(node: ServedNode, unwritten: str, origin: str) -> None:
    path = f"/v1/ledgers/{unwritten}/tables/cars/documents"
    refused = node.ask("POST", path, b"{}", headers={"Origin": origin})
    assert (refused.status, refused.slug, refused.json["field"]) == (403, "cross-origin", "Origin")


def test_the_own_page_is_served(node: ServedNode) -> None:
    assert node.ask("GET", "/openapi.json", headers={"Origin": node.url}).status == 200


def test_unknown_addresses_and_methods_are_problems_too(node: ServedNode, unwritten: str) -> None:
    for path in (
        "/",
        "/v1",
        "/v2/ledgers",
        f"/v1/ledgers/{unwritten}/",
        "/v1/ledgers/a/b/c/d/e/f/g/h/i/j",
        "//",
    ):
        assert node.ask("GET", path).slug == "route-unknown", path
    refused = node.ask("PATCH", f"/v1/ledgers/{unwritten}/tables/cars/documents/there", b"{}")
    assert (refused.status, refused.slug) == (405, "method-not-allowed")
    assert refused.headers["Allow"] == "DELETE, GET, HEAD, PUT"


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        (b"[]", 400, "not-an-object", None),
        (b'{"operations":[],"operations":[]}', 400, "duplicate-member", "/operations"),
        (b"{}", 422, "invalid-field", "operations"),
        (b'{"operations":[]}', 422, "invalid-field", "operations"),
        (b'{"operations":[{}]}', 422, "invalid-field", "operations[0].op"),
        (
            b'{"operations":[{"op":"put","table":"cars","key":"a"}]}',
            422,
            "invalid-field",
            "operations[0].data",
        ),
        (b'{"operations":[{"op":"put","table":"cars","key":"a","data":[]}]}', 422, "invalid-field", None),
        (b'{"operations":[{"op":"put","table":"cars","key":"a/b","data":{}}]}', 422, "invalid-field", None),
        (b'{"operations":[{"op":"put","table":"cars","key":"..","data":{}}]}', 422, "invalid-field", None),
        (b'{"operations":[{"op":"put","table":"c rs","key":"a","data":{}}]}', 422, "invalid-field", None),
        (b'{"operations":[{"op":"drop","table":"cars","key":"a"}]}', 422, "invalid-field", None),
        (b'{"operations":[{"op":"delete","table":"cars","key":"a","data":{}}]}', 422, "invalid-field", None),
        (
            b'{"operations":[{"op":"put","table":"cars","key":"a","data":{},"x":1}]}',
            422,
            "invalid-field",
            None,
        ),
        (
            b'{"read_seq":"1","operations":[{"op":"delete","table":"cars","key":"a"}]}',
            422,
            "invalid-field",
            "read_seq",
        ),
        (
            b'{"read_seq":-1,"operations":[{"op":"delete","table":"cars","key":"a"}]}',
            422,
            "invalid-field",
            "read_seq",
        ),
    ],
)
def test_a_bad_transaction_is_refused(
    node: ServedNode, unwritten: str, body: bytes, status: int, slug: str, field: str | None
) -> None:
    answer = node.ask("POST", f"/v1/ledgers/{unwritten}/transactions", body)
    assert (answer.status, answer.slug) == (status, slug)
    if field is not None:
        assert answer.json["field"] == field


@pytest.mark.parametrize(
    "conditions",
    [
        b'[{"table":"cars"}]',
        b'[{"table":"cars","key":"a","prefix":"b","version":1}]',
        b'[{"table":"cars","version":1}]',
        b'[{"table":"cars","key":"a","version":"1"}]',
        b'[{"key":"a","version":1}]',
    ],
)
def test_a_condition_that_says_nothing_is_refused(
    node: ServedNode, unwritten: str, conditions: bytes
) -> None:
    body = (
        b'{"operations":[{"op":"put","table":"cars","key":"a","data":{}}],"conditions":' + conditions + b"}"
    )
    answer = node.ask("POST", f"/v1/ledgers/{unwritten}/transactions", body)
    assert (answer.status, answer.slug) == (422, "invalid-field")


def test_a_transaction_too_large_is_refused(node: ServedNode, unwritten: str) -> None:
    answer = node.ask("POST", f"/v1/ledgers/{unwritten}/transactions", b" " * ((4 << 20) + 1))
    assert (answer.status, answer.slug, answer.json["limit"]) == (413, "body-too-large", 4 << 20)


@pytest.mark.parametrize(
    ("path", "body", "slug"),
    [
        ("", b'{"deletion_protection":1}', "invalid-field"),
        ("", b'{"protection":true}', "invalid-field"),
        ("", b"[]", "not-an-object"),
        ("", b"{", "invalid-json"),
        ("/tables/other", b'{"indexes":[{"name":"by_vin","fields":["vin"]}]}', "unsupported"),
        ("/tables/other", b'{"indexes":{}}', "invalid-field"),
        ("/tables/other", b'{"index":[]}', "invalid-field"),
    ],
)
def test_bad_settings_are_refused(
    node: ServedNode, unwritten: str, path: str, body: bytes, slug: str
) -> None:
    assert node.ask("PUT", f"/v1/ledgers/{unwritten}{path}", body).slug == slug
    assert node.ask("GET", f"/v1/ledgers/{unwritten}/tables/other").status == 404


@pytest.mark.parametrize("tx", ["1", "g" * 32, "A" * 32, "0" * 33])
def test_a_bad_transaction_id_is_refused(node: ServedNode, unwritten: str, tx: str) -> None:
    assert node.ask("GET", f"/v1/ledgers/{unwritten}/transactions/{tx}").slug == "invalid-name"


@pytest.mark.parametrize("seq", ["-1", "x", "01", "1.0", "99999999999999999"])
def test_a_bad_block_number_is_refused(node: ServedNode, unwritten: str, seq: str) -> None:
    assert node.ask("GET", f"/v1/ledgers/{unwritten}/blocks/{seq}").slug == "invalid-name"
