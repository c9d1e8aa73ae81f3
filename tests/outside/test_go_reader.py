"""A node read by golang.org/x/mod/sumdb/{tlog,note}: tiles, checkpoint and proofs checked by others' code."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.served import ServedNode

SOURCE = Path(__file__).with_name("go_reader") / "main.go"
PACKAGES = Path("/usr/share/gocode")
BLOCKS = 902

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None or not (PACKAGES / "src/golang.org/x/mod/sumdb/tlog").is_dir(),
    reason="needs Debian's golang-go and golang-golang-x-mod-dev",
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, compiled against Debian's copy of golang.org/x/mod."""
    folder = tmp_path_factory.mktemp("go")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOPATH": str(PACKAGES),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(folder / "cache"),
        "CGO_ENABLED": "0",
    }
    command = ["go", "build", "-o", str(folder / "go_reader"), str(SOURCE)]
    subprocess.run(command, check=True, env=environment, timeout=110)
    return folder / "go_reader"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    served = ServedNode(tmp_path_factory.mktemp("node")).start()
    served.ledger("outside")
    lines = [{"key": "k", "data": {"n": n}} if n % 2 else {"op": "delete", "key": "k"} for n in range(1, 900)]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert served.ask("POST", "/v1/ledgers/outside/bulk?table=cars", body).status == 200
    assert served.ask("GET", "/v1/ledgers/outside/checkpoint").status == 200  # A seal, the last block.
    assert served.size("outside") == BLOCKS
    yield served
    served.stop()


def run(reader: Path, url: str, key: str) -> subprocess.CompletedProcess[str]:
    command = [str(reader), "-url", url, "-key", key]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def key_of(node: ServedNode) -> str:
    return str(node.ask("GET", "/v1/ledgers/outside").json["verifier_key"])


def test_go_reads_the_whole_log(reader: Path, node: ServedNode) -> None:
    done = run(reader, f"{node.url}/v1/ledgers/outside", key_of(node))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["origin"], found["size"]) == ("stele/outside", BLOCKS)
    assert found["tiles"] == 5
    assert found["proofs"] == 4 * 25


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


@contextmanager
def altered(node: ServedNode, path: str, change: Callable[[bytes], bytes]) -> Iterator[str]:
    """The address of a server that is the node, but for one file."""

    class Liar(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with urllib.request.urlopen(node.url + self.path) as answer:  # noqa: S310
                body = answer.read()
            if self.path.endswith(path):
                body = change(body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/ledgers/outside"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/tlog/tile/0/000", flip(0)),
        ("/tlog/tile/0/003.p/134", flip(134 * 32 - 1)),
        ("/tlog/tile/1/000.p/3", flip(40)),
        ("/tlog/tile/entries/001", flip(2 + 10)),
        ("/tlog/tile/entries/003.p/134", lambda body: body[:-1]),
        ("/tlog/checkpoint", lambda body: body.replace(b"\n902\n", b"\n901\n")),
        ("/proofs/inclusion?seq=0&size=902", lambda body: body.replace(b'"path":["', b'"path":["00', 1)),
        ("/proofs/consistency?from=38&to=902", lambda body: body.replace(b"a", b"b")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_go_refuses_an_altered_file(
    reader: Path, node: ServedNode, path: str, change: Callable[[bytes], bytes]
) -> None:
    with altered(node, path, change) as url:
        done = run(reader, url, key_of(node))
    assert done.returncode == 1
    assert done.stdout == ""


def test_a_server_that_alters_nothing_is_believed(reader: Path, node: ServedNode) -> None:
    """The stand-in server of the test before is not what Go refuses."""
    with altered(node, "/tlog/tile/0/000", bytes) as url:
        assert run(reader, url, key_of(node)).returncode == 0


def test_go_refuses_another_key(reader: Path, node: ServedNode) -> None:
    node.ledger("another")
    assert node.ask("GET", "/v1/ledgers/another/checkpoint").status == 200
    other = str(node.ask("GET", "/v1/ledgers/another").json["verifier_key"])
    assert run(reader, f"{node.url}/v1/ledgers/outside", other).returncode == 1
