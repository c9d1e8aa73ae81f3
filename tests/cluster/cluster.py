"""A real cluster for tests: `steled demo`, its processes, its disks, and the wish to hurt them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05


@dataclass(frozen=True)
class Node:
    id: str
    zone: str
    http: str
    pid: int


def free_base_port() -> int:
    """A port with 200 free ones behind it that this test's cluster may use.

    Below those that Linux gives to outgoing connections (from 32,768): one of them could take a port away
    between this look and the node's start.
    """
    chosen = random.SystemRandom()
    while True:
        base = chosen.randrange(10_000, 32_000, 200)
        try:
            for offset in (*range(5), *range(100, 105)):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Polls a condition that other processes make true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {timeout_s} s")
        time.sleep(POLL_S)


class Cluster:
    """Three nodes in three zones under the demo's supervisor, which starts again what dies."""

    def __init__(self, root: Path, nodes: int = 3, *options: str) -> None:
        """`options` are more of those of `steled demo`."""
        self.root = root
        self.data = root / "data"
        self.ready_file = root / "ready.json"
        self.count = nodes
        self._options = options
        self.prefix: list[str] = []
        """What the demo is started with, such as a command that gives it a mount of its own."""
        self.port = free_base_port()
        self._log = root / "demo.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the cluster and returns once it serves."""
        self.ready_file.unlink(missing_ok=True)
        command = [*self.prefix, sys.executable, "-m", "node.main", "demo", "--nodes", str(self.count)]
        command += ["--data", str(self.data), "--port", str(self.port), "--ready-file", str(self.ready_file)]
        command += self._options
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._serves, START_TIMEOUT_S, f"the cluster serves (see {self._log})")

    def _serves(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"steled demo ended with {self._process.returncode}: {self._log.read_text()}")
        return self.ready_file.exists()

    def stop(self) -> None:
        """Stops every node in good order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(timeout=STOP_TIMEOUT_S)
            self._process = None
            assert code == 0, f"steled demo ended with {code}: {self._log.read_text()[-4000:]}"

    def kill_everything(self) -> None:
        """For teardown after a failure: nothing that this cluster started stays."""
        if self._process is not None:
            for node in self.nodes() if self.ready_file.exists() else []:
                self.kill(node)
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def ready(self) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(self.ready_file.read_text())
        return loaded

    @property
    def verifier_key(self) -> str:
        return str(self.ready()["verifier_key"])

    def nodes(self) -> list[Node]:
        listed = self.ready()["nodes"]
        assert isinstance(listed, list)
        return [Node(**entry) for entry in listed]

    def kill(self, node: Node) -> None:
        """kill -9; the node's process may be gone already."""
        try:
            os.kill(node.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def stores(self) -> list[Path]:
        """The data directory of each node."""
        found = sorted(path.parent.parent for path in self.data.rglob("store/CURRENT"))
        assert len(found) == self.count, found
        return found


async def leader_of(session: aiohttp.ClientSession, cluster: Cluster, timeout_s: float = 20.0) -> Node:
    """The node that a majority of the nodes that answer calls leader."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        named: list[str] = []
        for node in cluster.nodes():
            try:
                async with session.get(f"{node.http}/v1/cluster") as answer:
                    status = await answer.json()
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                continue
            if status.get("leader"):
                named.append(status["leader"])
        for node in cluster.nodes():
            if named.count(node.id) * 2 > cluster.count:
                return node
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"no leader within {timeout_s} s")


async def sizes(session: aiohttp.ClientSession, cluster: Cluster, ledger: str) -> list[int]:
    """The journal's size as each node itself shows it; -1 for a node that does not answer."""
    found = []
    for node in cluster.nodes():
        try:
            async with session.get(f"{node.http}/v1/ledgers/{ledger}?consistency=snapshot") as answer:
                found.append((await answer.json())["size"] if answer.status == 200 else -1)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            found.append(-1)
    return found


async def converged(
    session: aiohttp.ClientSession, cluster: Cluster, ledger: str, timeout_s: float = 30.0
) -> int:
    """Waits until all nodes show a journal of the same size, and returns that size."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await sizes(session, cluster, ledger)
        if len(set(found)) == 1 and found[0] > 0:
            return found[0]
        if time.monotonic() > deadline:
            raise TimeoutError(f"the nodes do not converge: {found}")
        await asyncio.sleep(POLL_S)


async def export_of(session: aiohttp.ClientSession, node: Node, ledger: str) -> list[bytes]:
    """The whole journal as this one node has it, a line a block, after the line that heads it."""
    async with session.get(f"{node.http}/v1/ledgers/{ledger}/export?consistency=snapshot") as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.read()).splitlines()
