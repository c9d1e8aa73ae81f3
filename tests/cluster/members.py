"""Three nodes, each a process with settings of the test's choosing; nobody starts again what dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from node.signing_keys import create_log_key
from tests.cluster.cluster import wait_until

LEDGER = "books"
STOP_TIMEOUT_S = 30.0
BULK_PATH = f"/v1/ledgers/{LEDGER}/bulk?table=cars"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Members:
    """n0, n1, n2 in zones of their own, over plain TCP on the loopback."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        ports = _free_ports(6)
        self.http = {f"n{i}": ports[i] for i in range(3)}
        raft = {f"n{i}": ports[3 + i] for i in range(3)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        create_log_key(root / "log-key.pem")
        peers = [
            f"n{i},zone-{i},127.0.0.1:{raft[f'n{i}']},http://127.0.0.1:{self.http[f'n{i}']}" for i in range(3)
        ]
        for node_id, port in self.http.items():
            document = {
                "node_id": node_id,
                "data_dir": str(root / node_id),
                "log_key_file": str(root / "log-key.pem"),
                "http_port": port,
                "raft_port": raft[node_id],
                "peers": peers,
                "insecure": True,
                **settings,
            }
            text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in document.items())
            (root / f"{node_id}.toml").write_text(text)

    def start(self, *node_ids: str, module: str = "node.main") -> None:
        """Starts nodes, or those that are named, as `python -m module serve`."""
        for node_id in node_ids or self.http:
            with (self.root / f"{node_id}.log").open("ab") as log:
                self._processes[node_id] = subprocess.Popen(
                    [sys.executable, "-m", module, "serve", "--config", str(self.root / f"{node_id}.toml")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def kill(self, node_id: str) -> None:
        """kill -9; returns once the process is gone."""
        self._processes[node_id].send_signal(signal.SIGKILL)
        self._processes[node_id].wait()

    def stop(self, node_id: str) -> None:
        """SIGTERM; returns once the process has ended."""
        self._processes[node_id].send_signal(signal.SIGTERM)
        assert self._processes[node_id].wait(STOP_TIMEOUT_S) == 0, self.log(node_id)[-4000:]

    def ended(self, node_id: str) -> int | None:
        """The exit status of a node that ended by itself; None while it runs."""
        return self._processes[node_id].poll()

    def pid(self, node_id: str) -> int:
        return self._processes[node_id].pid

    def stop_everything(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def log(self, node_id: str) -> str:
        return (self.root / f"{node_id}.log").read_text()

    # What clients do.

    def ask(self, node_id: str, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """(status, JSON); status 0 when the node does not answer."""
        connection = HTTPConnection("127.0.0.1", self.http[node_id], timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException):
            return 0, None
        finally:
            connection.close()
        lines = text.splitlines()
        return answer.status, json.loads(lines[-1]) if lines else None

    def leader(self, *among: str) -> str:
        """The leader that the named nodes, by default all, agree on."""
        found: list[str] = []

        def agreed() -> bool:
            told = [self.ask(each, "GET", "/v1/cluster") for each in among or self.http]
            leaders = {answer["leader"] if status == 200 else None for status, answer in told}
            found[:] = [leader for leader in leaders if leader is not None]
            return len(leaders) == 1 and bool(found)

        wait_until(agreed, 30, "there is a leader")
        return found[0]

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
        wait_until(condition, timeout_s, what)

    def create(self, leader: str) -> None:
        for path in (f"/v1/ledgers/{LEDGER}", f"/v1/ledgers/{LEDGER}/tables/cars"):
            status, answer = self.ask(leader, "PUT", path)
            assert status == 201, answer

    def load(self, leader: str, name: str, mebibytes: float) -> int:
        """Writes documents of 4 KiB that compression does not shrink; returns how many."""
        count = int(mebibytes * 256)
        data = os.urandom(2048)
        lines = [
            b'{"key":"%b-%d","data":{"text":"%b"}}'
            % (name.encode(), n, (data[n % 999 :] + data).hex()[:4000].encode())
            for n in range(count)
        ]
        status, answer = self.ask(leader, "POST", BULK_PATH, b"\n".join(lines) + b"\n")
        assert status == 200, answer
        assert answer["accepted"] == count, answer
        return count

    def size(self, node_id: str) -> int:
        """Blocks of the journal as this node shows it; -1 when it shows none."""
        status, answer = self.ask(node_id, "GET", f"/v1/ledgers/{LEDGER}?consistency=snapshot")
        return int(answer["size"]) if status == 200 else -1

    def caught_up(self, node_id: str, leader: str) -> bool:
        """Whether a node shows what the leader does, and the leader knows that it has the whole log."""
        status, cluster = self.ask(leader, "GET", "/v1/cluster")
        (member,) = [each for each in cluster["members"] if each["id"] == node_id]
        known = status == 200 and member.get("match_index") == cluster["commit_index"]
        return known and self.size(node_id) == self.size(leader) > 0

    def export(self, node_id: str) -> list[bytes]:
        """The journal as this node has it, a line a block; without the line that heads it, whose checkpoint
        bears the cosignatures that the node has gathered so far."""
        connection = HTTPConnection("127.0.0.1", self.http[node_id], timeout=60)
        connection.request("GET", f"/v1/ledgers/{LEDGER}/export?consistency=snapshot")
        answer = connection.getresponse()
        assert answer.status == 200
        lines = answer.read().splitlines()
        connection.close()
        return lines[1:]

    def first_index(self, node_id: str) -> int:
        """Where the node's log begins, as its metrics say."""
        connection = HTTPConnection("127.0.0.1", self.http[node_id], timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        (line,) = [each for each in text.splitlines() if each.startswith("stele_raft_first_index ")]
        return int(float(line.split()[1]))


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition came true in time; looked at every millisecond."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.001)
    return False
