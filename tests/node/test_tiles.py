"""The journal as C2SP tlog-tiles: which files there are, what is in them, and how they may be kept."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from stele.verify.checkpoint import parse_checkpoint
from stele.verify.merkle import TreeBuilder
from stele.verify.note import VerifierKey
from tests.node.served import Answer, ServedNode

SIZE = 602


@pytest.fixture(scope="module")
def log(node: ServedNode) -> str:
    """A ledger of 602 blocks: each line that deletes is a block of its own, and so is what stands before."""
    name = node.ledger("tiles")
    lines = [
        {"key": "k", "data": {"n": n}} if n % 2 == 0 else {"op": "delete", "key": "k"} for n in range(599)
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert node.ask("POST", f"/v1/ledgers/{name}/bulk?table=cars", body).status == 200
    assert node.ask("GET", f"/v1/ledgers/{name}/checkpoint").status == 200  # A seal, the last block.
    assert node.size(name) == SIZE
    return name


def fetch(node: ServedNode, ledger: str, path: str) -> Answer:
    return node.ask("GET", f"/v1/ledgers/{ledger}/tlog/{path}")


def headers_of(bundle: bytes) -> list[bytes]:
    found = []
    while bundle:
        end = 2 + int.from_bytes(bundle[:2], "big")
        assert len(bundle) >= end
        found.append(bundle[2:end])
        bundle = bundle[end:]
    return found


def leaf(header: bytes) -> bytes:
    return hashlib.sha256(b"\0" + header).digest()


def test_checkpoint_bundles_and_tiles_are_one_tree(node: ServedNode, log: str) -> None:
    answer = fetch(node, log, "checkpoint")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=1"
    key = VerifierKey.parse(node.ask("GET", f"/v1/ledgers/{log}").json["verifier_key"])
    checkpoint = parse_checkpoint(answer.body.decode(), key, f"stele/{log}")
    assert checkpoint.size == SIZE

    paths = ["000", "001", "002.p/90"]
    headers = [
        header for path in paths for header in headers_of(fetch(node, log, f"tile/entries/{path}").body)
    ]
    assert [json.loads(header)["seq"] for header in headers] == list(range(SIZE))
    tree = TreeBuilder()
    for header in headers:
        tree.append(leaf(header))
    assert tree.root() == checkpoint.root
    assert b"".join(fetch(node, log, f"tile/0/{path}").body for path in paths) == b"".join(map(leaf, headers))

    above = []
    for first in (0, 256):
        subtree = TreeBuilder()
        for header in headers[first : first + 256]:
            subtree.append(leaf(header))
        above.append(subtree.root())
    assert fetch(node, log, "tile/1/000.p/2").body == b"".join(above)


def test_what_never_changes_may_be_kept(node: ServedNode, log: str) -> None:
    for path in (
        "tile/0/000",
        "tile/0/002.p/90",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/002.p/1",
    ):
        answer = fetch(node, log, path)
        assert answer.status == 200, path
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        head = node.ask("HEAD", f"/v1/ledgers/{log}/tlog/{path}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(answer.body)))


def test_a_partial_tile_is_the_beginning_of_the_full_one(node: ServedNode, log: str) -> None:
    full = fetch(node, log, "tile/0/001").body
    assert len(full) == 8_192
    for width in (1, 2, 128, 255):
        assert fetch(node, log, f"tile/0/001.p/{width}").body == full[: 32 * width]
    bundle = fetch(node, log, "tile/entries/001").body
    assert headers_of(bundle)[:3] == headers_of(fetch(node, log, "tile/entries/001.p/3").body)


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/002",
        "tile/0/002.p/91",
        "tile/0/003.p/1",
        "tile/1/000",
        "tile/1/000.p/3",
        "tile/2/000.p/1",
        "tile/63/000.p/1",
        "tile/entries/002",
        "tile/entries/002.p/91",
        "tile/0/x001/x234/067",
        # Not the one way to write it.
        "tile/0/0",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/00/000",
        "tile/64/000",
        "tile/8/0/000/",
        "tile/data/000",
        "tile/entries/000/",
    ],
)
def test_there_is_no_other_file(node: ServedNode, log: str, path: str) -> None:
    answer = fetch(node, log, path)
    assert (answer.status, answer.slug) == (404, "tile-unknown")
    assert "Cache-Control" not in answer.headers


def test_a_short_path_is_no_file(node: ServedNode, log: str) -> None:
    assert [fetch(node, log, path).slug for path in ("tile", "tile/0", "tile/")] == ["route-unknown"] * 3
    assert fetch(node, "nobody", "checkpoint").slug == "ledger-unknown"
    assert fetch(node, "nobody", "tile/0/000").slug == "ledger-unknown"


@pytest.mark.parametrize(
    ("accepts", "compressed"),
    [
        (None, False),
        ("gzip", True),
        ("br, x-gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0, identity", False),
        ("gzip;q=0.000, *", False),
        ("br, gzipped", False),
        ("identity", False),
    ],
)
def test_bundles_are_compressed_for_whoever_takes_it(
    node: ServedNode, log: str, accepts: str | None, compressed: bool
) -> None:
    path = f"/v1/ledgers/{log}/tlog/tile/entries/000"
    # http.client would say "identity" by itself.
    answer = node.ask("GET", path, headers={} if accepts is None else {"Accept-Encoding": accepts})
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (answer.headers.get("Content-Encoding") == "gzip") == compressed
    body = gzip.decompress(answer.body) if compressed else answer.body
    assert len(headers_of(body)) == 256
    if compressed:
        assert len(answer.body) < len(body) * 0.7


def test_a_new_seal_extends_the_partial_tile(node: ServedNode) -> None:
    name = node.ledger("growing")
    assert fetch(node, name, "tile/0/000.p/2").slug == "tile-unknown"
    assert fetch(node, name, "checkpoint").body.splitlines()[1] == b"3"
    before = fetch(node, name, "tile/0/000.p/3").body
    path = f"/v1/ledgers/{name}/tables/cars/documents/k"
    assert node.ask("PUT", path, {"n": 1}).status == 201
    # Nothing is shown that no checkpoint covers.
    assert fetch(node, name, "checkpoint").body.splitlines()[1] == b"3"
    assert fetch(node, name, "tile/0/000.p/4").slug == "tile-unknown"
    assert fetch(node, name, "tile/entries/000.p/4").slug == "tile-unknown"
    assert node.ask("GET", f"{path}?proof=true").status == 200
    assert fetch(node, name, "checkpoint").body.splitlines()[1] == b"5"
    assert fetch(node, name, "tile/0/000.p/5").body[:96] == before
    assert fetch(node, name, "tile/0/000.p/3").body == before
