"""Documents over HTTP, as a client meets them."""

from __future__ import annotations

import json
from urllib.parse import quote

import msgspec
import pytest

from node.http import schemas
from stele.format.times import format_time, parse_time
from tests.node.served import ServedNode


def path_of(ledger: str, key: str = "a") -> str:
    return f"/v1/ledgers/{ledger}/tables/cars/documents/{quote(key, safe='')}"


def test_first_put_creates_and_the_next_one_adds_a_version(node: ServedNode, ledger: str) -> None:
    first = node.ask("PUT", path_of(ledger), {"b": 1, "a": 2})
    assert (first.status, first.headers["ETag"], first.headers["Location"]) == (201, '"0"', path_of(ledger))
    assert first.json | {"tx": "", "at": ""} == {
        "ledger": ledger,
        "table": "cars",
        "key": "a",
        "version": 0,
        "seq": 2,
        "tx": "",
        "at": "",
    }
    second = node.ask("PUT", path_of(ledger), {"b": 2})
    assert (second.status, second.headers["ETag"], second.json["version"], second.json["seq"]) == (
        200,
        '"1"',
        1,
        3,
    )
    assert second.headers["X-Stele-Node"] == "n0"


def test_get_answers_the_canonical_document(node: ServedNode, ledger: str) -> None:
    written = node.ask("PUT", path_of(ledger), '{"b": 1.0, "a": "é", "c": [1e2]}'.encode()).json
    found = node.ask("GET", path_of(ledger))
    assert found.status == 200
    assert found.body.endswith('"data":{"a":"é","b":1,"c":[100]}}'.encode())
    assert found.json["tx"] == written["tx"]
    assert found.headers["ETag"] == '"0"'


@pytest.mark.parametrize(
    "key", ["ä/ö".replace("/", "-"), "a b", "100%", "?x=1", "#", "日本", "😀", 'q"\\', "a+b", "%2F"]
)
def test_any_allowed_key_comes_back_as_it_was(node: ServedNode, ledger: str, key: str) -> None:
    assert node.ask("PUT", path_of(ledger, key), {"n": 1}).json["key"] == key
    assert node.ask("GET", path_of(ledger, key)).json["key"] == key
    listed = node.ask("GET", f"/v1/ledgers/{ledger}/tables/cars/documents").json
    assert [document["key"] for document in listed["documents"]] == [key]


def test_head_answers_as_get_without_a_body(node: ServedNode, ledger: str) -> None:
    node.ask("PUT", path_of(ledger), {"n": 1})
    got, headed = node.ask("GET", path_of(ledger)), node.ask("HEAD", path_of(ledger))
    assert (headed.status, headed.body) == (200, b"")
    assert headed.headers["Content-Length"] == got.headers["Content-Length"]


def test_never_written_is_404_and_deleted_is_410(node: ServedNode, ledger: str) -> None:
    missing = node.ask("GET", path_of(ledger))
    assert (missing.status, missing.slug) == (404, "not-found")
    assert node.ask("DELETE", path_of(ledger)).slug == "not-found"
    node.ask("PUT", path_of(ledger), {"n": 1})
    deleted = node.ask("DELETE", path_of(ledger))
    assert (deleted.status, deleted.json["version"]) == (200, 1)
    gone = node.ask("GET", path_of(ledger))
    assert (gone.status, gone.slug, gone.json["current_version"]) == (410, "gone", 1)
    again = node.ask("DELETE", path_of(ledger))
    assert (again.status, again.slug, again.json["current_version"]) == (410, "gone", 1)
    assert node.ask("GET", path_of(ledger) + "?version=0").json["data"] == {"n": 1}
    assert node.ask("PUT", path_of(ledger), {"n": 2}).json["version"] == 2


def test_if_match_and_if_none_match_guard_a_write(node: ServedNode, ledger: str) -> None:
    absent = {"If-None-Match": "*"}
    assert node.ask("PUT", path_of(ledger), {"n": 0}, absent).status == 201
    refused = node.ask("PUT", path_of(ledger), {"n": 1}, absent)
    assert (refused.status, refused.slug, refused.json["current_version"]) == (412, "version-mismatch", 0)
    assert node.ask("PUT", path_of(ledger), {"n": 1}, {"If-Match": '"0"'}).json["version"] == 1
    stale = node.ask("PUT", path_of(ledger), {"n": 2}, {"If-Match": '"0"'})
    assert (stale.status, stale.json["current_version"]) == (412, 1)
    assert node.ask("DELETE", path_of(ledger), headers={"If-Match": '"0"'}).status == 412
    assert node.ask("DELETE", path_of(ledger), headers={"If-Match": '"1"'}).status == 200
    assert node.ask("PUT", path_of(ledger), {"n": 3}, absent).json["version"] == 3


def test_a_current_copy_is_answered_304(node: ServedNode, ledger: str) -> None:
    node.ask("PUT", path_of(ledger), {"n": 0})
    unchanged = node.ask("GET", path_of(ledger), headers={"If-None-Match": '"0"'})
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", '"0"')
    node.ask("PUT", path_of(ledger), {"n": 1})
    assert node.ask("GET", path_of(ledger), headers={"If-None-Match": '"0"'}).json["version"] == 1


def test_post_makes_a_key_and_says_where(node: ServedNode, ledger: str) -> None:
    posted = node.ask("POST", f"/v1/ledgers/{ledger}/tables/cars/documents", {"n": 1})
    assert posted.status == 201
    assert node.ask("GET", posted.headers["Location"]).json["key"] == posted.json["key"]


def test_a_post_repeated_under_its_key_gets_the_same_document(node: ServedNode, ledger: str) -> None:
    path, headers = f"/v1/ledgers/{ledger}/tables/cars/documents", {"Idempotency-Key": "once"}
    first, again = (node.ask("POST", path, {"n": 1}, headers) for _ in range(2))
    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"


def test_the_past_is_readable_by_version_block_and_time(node: ServedNode, ledger: str) -> None:
    writes = [node.ask("PUT", path_of(ledger), {"n": n}).json for n in range(3)]
    for n, written in enumerate(writes):
        for query in (f"version={n}", f"as_of_seq={written['seq']}", f"as_of={quote(written['at'])}"):
            assert node.ask("GET", f"{path_of(ledger)}?{query}").json["data"] == {"n": n}, query
    # As a careless client writes it: an unescaped plus sign means a space in a query string.
    offset = writes[0]["at"].replace("Z", "+00:00")
    assert node.ask("GET", f"{path_of(ledger)}?as_of={offset}").json["data"] == {"n": 0}
    both = f"as_of_seq={writes[0]['seq']}&as_of={quote(writes[2]['at'])}"
    assert node.ask("GET", f"{path_of(ledger)}?{both}").json["data"] == {"n": 0}
    before = format_time(parse_time(writes[0]["at"]) - 1)
    assert node.ask("GET", f"{path_of(ledger)}?as_of={quote(before)}").slug == "not-found"
    assert node.ask("GET", f"{path_of(ledger)}?as_of=1999-01-01T00:00:00Z").slug == "not-found"
    assert node.ask("GET", f"{path_of(ledger)}?as_of_seq=99").slug == "block-unknown"
    assert node.ask("GET", f"{path_of(ledger)}?version=3").slug == "not-found"


def test_history_is_paged_newest_first(node: ServedNode, ledger: str) -> None:
    for n in range(5):
        node.ask("PUT", path_of(ledger), {"n": n})
    node.ask("DELETE", path_of(ledger))
    seen, following = [], ""
    while True:
        page = node.ask("GET", f"{path_of(ledger)}/history?limit=4{following}").json
        seen += page["revisions"]
        if "next" not in page:
            break
        following = f"&after={page['next']}"
    assert [revision["version"] for revision in seen] == [5, 4, 3, 2, 1, 0]
    assert [revision["op"] for revision in seen] == ["delete"] + ["put"] * 5
    assert [revision.get("data") for revision in seen] == [None] + [{"n": n} for n in (4, 3, 2, 1, 0)]


def test_a_list_is_paged_in_key_order_and_by_prefix(node: ServedNode, ledger: str) -> None:
    keys = sorted(f"{letter}{n}" for letter in "ab" for n in range(5))
    for key in reversed(keys):
        node.ask("PUT", path_of(ledger, key), {"key": key})
    base = f"/v1/ledgers/{ledger}/tables/cars/documents"
    seen, following = [], ""
    while True:
        page = node.ask("GET", f"{base}?limit=3{following}").json
        seen += [document["key"] for document in page["documents"]]
        if "next" not in page:
            break
        following = f"&after={page['next']}"
    assert seen == keys
    by_prefix = node.ask("GET", f"{base}?prefix=b").json
    assert [document["key"] for document in by_prefix["documents"]] == [key for key in keys if key[0] == "b"]
    assert by_prefix["seq"] == node.size(ledger) - 1
    earlier = node.ask("GET", f"{base}?as_of_seq=3").json
    assert [document["key"] for document in earlier["documents"]] == keys[-2:]


def test_snapshot_reads_show_their_block_and_wait_for_one(node: ServedNode, ledger: str) -> None:
    seq = node.ask("PUT", path_of(ledger), {"n": 1}).json["seq"]
    found = node.ask("GET", f"{path_of(ledger)}?consistency=snapshot&min_seq={seq}")
    assert found.json["data"] == {"n": 1}


def test_min_seq_beyond_the_journal_is_retryable(
    node: ServedNode, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.limits.MIN_SEQ_TIMEOUT_S", 0.05)
    answer = node.ask("GET", f"{path_of(ledger)}?consistency=snapshot&min_seq=99")
    assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "not-caught-up", "1")


def test_a_strong_read_of_a_block_that_does_not_exist_waits_for_nothing(
    node: ServedNode, ledger: str
) -> None:
    answer = node.ask("GET", f"{path_of(ledger)}?min_seq=99")
    assert (answer.status, answer.slug) == (404, "block-unknown")


def test_the_last_page_says_that_it_is_the_last(node: ServedNode, ledger: str) -> None:
    for number in range(4):
        node.ask("PUT", path_of(ledger, f"page-{number}"), {})
    base = f"/v1/ledgers/{ledger}/tables/cars/documents?prefix=page-&limit=2"
    first = node.ask("GET", base).json
    assert first["next"] == "page-1"
    assert "next" not in node.ask("GET", f"{base}&after=page-1").json


def test_answers_have_the_documented_form(node: ServedNode, ledger: str) -> None:
    msgspec.json.decode(node.ask("PUT", path_of(ledger), {"n": 1}).body, type=schemas.Written)
    msgspec.json.decode(node.ask("GET", f"{path_of(ledger)}?proof=true").body, type=schemas.DocumentAnswer)
    base = f"/v1/ledgers/{ledger}/tables/cars/documents"
    msgspec.json.decode(node.ask("GET", base).body, type=schemas.Documents)
    msgspec.json.decode(node.ask("GET", path_of(ledger) + "/history").body, type=schemas.Revisions)


def test_a_document_of_exactly_the_limit_is_taken(node: ServedNode, ledger: str) -> None:
    body = json.dumps({"x": "a" * ((1 << 20) - len('{"x":""}'))}, separators=(",", ":")).encode()
    assert len(body) == 1 << 20
    assert node.ask("PUT", path_of(ledger), body).status == 201
    assert node.ask("GET", path_of(ledger)).body.endswith(body + b"}")
