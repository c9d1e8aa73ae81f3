"""The command as a process: pipes, signals, and standard input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Stele, start

TIMEOUT_S = 30


def test_a_document_from_standard_input(stele: Stele, ledger: str) -> None:
    for arguments in ([], ["-"]):
        putting = start("document", "put", ledger, "t", "k", *arguments, "-o", "json")
        out, err = putting.communicate(b'{"n":1}', timeout=TIMEOUT_S)
        assert (putting.returncode, err) == (0, b"")
        assert json.loads(out)["key"] == "k"


def test_a_load_from_a_pipe(stele: Stele, ledger: str) -> None:
    loading = start("bulk", ledger, "t", "-", "--format", "csv", "--key", "id", "-o", "json")
    out, err = loading.communicate(
        b"id,n\n" + b"".join(b"k%d,%d\n" % (n, n) for n in range(20_000)), TIMEOUT_S
    )
    assert (loading.returncode, err) == (0, b"")
    assert json.loads(out)["accepted"] == 20_000


def test_ctrl_c_ends_it_at_once_and_says_how_to_go_on(stele: Stele, ledger: str) -> None:
    """The source is a pipe that stays silent, so something is blocked in a read when the signal comes."""
    loading = start("bulk", ledger, "t", "-")
    assert loading.stdin is not None
    loading.stdin.write(b'{"key":"a","data":{}}\n' * 600)
    loading.stdin.flush()
    while stele("document", "get", ledger, "t", "a").code != 0:
        assert loading.poll() is None
    loading.send_signal(signal.SIGINT)
    # The pipe is still open: communicate() would close it.
    code = loading.wait(TIMEOUT_S)
    assert loading.stderr is not None
    err = loading.stderr.read().decode()
    loading.stdin.close()
    assert code == -signal.SIGINT
    assert "interrupted" in err
    assert "--idempotency-key" in err
    assert "Traceback" not in err


_BESIDE_THE_READER = """
import signal, threading, time
from stele.cli.standard_input import standard_input

def interrupt():
    # To this thread: what the main one waits in is not broken off, as when a signal comes just before it.
    while True:
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

with standard_input() as stream:
    print(stream.readline(), flush=True)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        stream.read()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_an_interrupt_that_breaks_off_no_read_ends_the_wait_all_the_same() -> None:
    reading = subprocess.Popen(
        [sys.executable, "-c", _BESIDE_THE_READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert reading.stdin is not None
    assert reading.stdout is not None
    reading.stdin.write(b"a line\n")
    reading.stdin.flush()
    try:
        assert reading.wait(TIMEOUT_S) == 0
        assert reading.stdout.read() == b"b'a line\\n'\ninterrupted\n"
    finally:
        reading.kill()
        reading.stdin.close()
        reading.stdout.close()


def test_a_reader_that_stops_reading_is_no_error(stele: Stele, ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("".join(f'{{"key":"k{n}","data":{{"text":"{"x" * 200}"}}}}\n' for n in range(3000)))
    assert stele("bulk", ledger, "t", file).code == 0
    for command in (["document", "list", ledger, "t"], ["export", ledger]):
        listing = start(*command)
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.wait(TIMEOUT_S) == 0
        assert listing.stderr.read() == b""
        listing.stderr.close()


@pytest.mark.parametrize("arguments", [["ledger", "list"], ["verify", "l"]])
def test_an_error_is_one_line_without_a_traceback(stele: Stele, arguments: list[str]) -> None:
    failing = start(*arguments, "--endpoints", "127.0.0.1:9", "--timeout-s", "0.2", stdin=subprocess.DEVNULL)
    out, err = failing.communicate(timeout=TIMEOUT_S)
    assert (failing.returncode, out, err.count(b"\n")) == (5, b"", 1)
