"""How a node ends: gracefully when told to, at once when it can no longer trust itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from node import limits
from node.http import documents
from storage.errors import InvariantBroken
from tests.node.served import ServedNode
from tests.node.test_bulk import Stream


def test_commits_on_their_way_are_answered_before_the_end(tmp_path: Path) -> None:
    node = ServedNode(tmp_path).start()
    node.ledger("books")
    # Who connects in the very moment of the end may find nobody; a real process would reset him.
    node.timeout_s = 3
    statuses: list[int] = []
    started = threading.Barrier(9)

    def write(number: int) -> None:
        started.wait()
        try:
            answer = node.ask("PUT", f"/v1/ledgers/books/tables/cars/documents/{number}", {"n": number})
        except OSError:
            return  # the node had stopped accepting
        statuses.append(answer.status)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    started.wait()
    node.stop()
    for writer in writers:
        writer.join()
    assert set(statuses) <= {201, 503}

    again = ServedNode(tmp_path).start()
    listed = again.ask("GET", "/v1/ledgers/books/tables/cars/documents").json["documents"]
    again.stop()
    assert len(listed) >= statuses.count(201)


def test_a_stream_that_does_not_end_does_not_keep_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SHUTDOWN_REQUESTS_TIMEOUT_S", 0.2)
    node = ServedNode(tmp_path).start()
    node.ledger("books")
    stream = Stream(node, "books")
    stream.send(b'{"key":"a","data":{}}\n')
    stream.until(b'"line":1,')
    node.stop()
    with pytest.raises(AssertionError, match="the stream ended"):
        stream.until(b'"done"')
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", node.port))


def test_a_draining_node_is_not_ready(tmp_path: Path) -> None:
    node = ServedNode(tmp_path).start()
    node.node.services.draining = True
    answer = node.ask("GET", "/readyz")
    assert (answer.status, answer.slug) == (503, "shutting-down")
    assert node.ask("GET", "/livez").status == 200
    node.stop()


def test_a_broken_invariant_found_by_a_read_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ServedNode(tmp_path).start()
    node.ledger("books")

    def broken(*_: object) -> None:
        raise InvariantBroken("block 7 is not what it was")

    monkeypatch.setattr(documents, "view_for", broken)
    node.ask("GET", "/v1/ledgers/books/tables/cars/documents/a")
    assert [str(error) for error in node.fatal] == ["block 7 is not what it was"]
    node.fatal.clear()
    node.stop()


def test_a_fatal_error_exits_70_at_once_and_says_why() -> None:
    program = (
        "from pathlib import Path\n"
        "from node.fatal import exit_at_once\n"
        "from node.telemetry import configure_logging\n"
        "configure_logging('info', 'n0')\n"
        "try:\n"
        "    exit_at_once(RuntimeError('a defect'), Path('data'))\n"
        "finally:\n"
        "    print('still here')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert ended.returncode == limits.FATAL_EXIT_CODE
    assert ended.stdout == ""
    assert "a defect" in ended.stderr
    assert '"node": "n0"' in ended.stderr
