"""A real node of a cluster of one, served in this process on a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from node.app import Node
from node.checkpoints import create_log_key
from node.config import Config

STARTED_WITHIN_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """The problem's type; fails the test when the answer is no problem."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        document = self.json
        assert document["status"] == self.status
        assert document["title"]
        assert document["detail"]
        assert isinstance(document["retryable"], bool)
        assert document["request_id"] == self.headers["X-Request-Id"]
        return str(document["type"]).removeprefix("urn:stele:problem:")


@dataclass
class ServedNode:
    """Start one with `start`, speak to it with `ask`, end it with `stop`."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        key_file = self.directory / "log-key.pem"
        if not key_file.exists():
            create_log_key(key_file)
        self.config = Config(
            **{
                "node_id": "n0",
                "data_dir": self.directory / "data",
                "log_key_file": key_file,
                "http_port": free_port(),
                "raft_port": free_port(),
                "insecure": True,
                # Seals come only when somebody asks for a proof, so that tests can count blocks.
                "seal_interval_s": 3600.0,
                **self.settings,
            }
        )
        self.fatal: list[BaseException] = []
        self.node = Node(self.config, self.fatal.append)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def port(self) -> int:
        return self.config.http_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def begin(self) -> None:
        """Start without waiting for a leader."""
        self._thread.start()
        self.run(self.node.start())

    def start(self) -> ServedNode:
        self.begin()
        self.until_ready()
        return self

    def until_ready(self) -> None:
        deadline = time.monotonic() + STARTED_WITHIN_S
        while self.ask("GET", "/readyz").status != 200:
            assert time.monotonic() < deadline, "the node did not become ready"
            time.sleep(0.01)

    def until_idle(self) -> None:
        """Return when no request but our own is being handled."""
        deadline = time.monotonic() + STARTED_WITHIN_S
        while b"stele_http_requests_in_flight 1.0" not in self.ask("GET", "/metrics").body:
            assert time.monotonic() < deadline, "requests are still being handled"
            time.sleep(0.01)

    def run(self, work: Any) -> Any:
        """Run a coroutine on the node's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def stop(self) -> None:
        self.run(self.node.stop())
        self.halt()
        assert self.fatal == []

    def halt(self) -> None:
        self.run(_end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        try:
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, CIMultiDict(response.getheaders()), response.read())
        finally:
            connection.close()

    def raw(self, request: bytes, *, half_close: bool = False) -> bytes:
        """Whatever the server says to these bytes, until it closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer

    def ledger(self, name: str, table: str = "cars") -> str:
        """Make a ledger with a table; its name."""
        assert self.ask("PUT", f"/v1/ledgers/{name}").status == 201
        assert self.ask("PUT", f"/v1/ledgers/{name}/tables/{table}").status == 201
        return name

    def size(self, ledger: str) -> int:
        return int(self.ask("GET", f"/v1/ledgers/{ledger}").json["size"])


async def _end_tasks() -> None:
    """Connections that linger for a sender who went on sending."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
