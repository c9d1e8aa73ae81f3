"""Starting and ending the processes of a peer, each by its own id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench import limits
from bench.connection import BenchmarkError


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process whose output goes to the file ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask each to end, and make those end that do not within the time allowed."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + limits.STOP_TIMEOUT_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(*offsets: int) -> int:
    """A base port on the loopback such that nobody listens on it plus any of the ``offsets``."""
    for base in range(17_400, 27_400, 200):
        if all(_is_free(base + offset) for offset in offsets):
            return base
    raise BenchmarkError("found no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process now and at its highest (VmRSS and VmHWM of proc(5))."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, highest = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, highest


def processor_s(pid: int) -> float:
    """Processor time a process has used so far (utime and stime of proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
