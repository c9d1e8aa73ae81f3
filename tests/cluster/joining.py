"""A node that joins a demo cluster later: a process of its own, over TLS, with a certificate made for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.cluster import STOP_TIMEOUT_S, Cluster, Node

RAFT_PORT_OFFSET = 100
"""As the demo has it: node i replicates on its base port + 100 + i."""


class JoiningNode:
    """Node `number` of a cluster; 3 and 4 are beyond those that the demo supervises."""

    def __init__(self, cluster: Cluster, number: int, zone: str) -> None:
        self.id = f"n{number}"
        self.zone = zone
        self.http = f"http://127.0.0.1:{cluster.port + number}"
        self.raft = f"127.0.0.1:{cluster.port + RAFT_PORT_OFFSET + number}"
        self.directory = cluster.root / self.id
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def certificates(self) -> Path:
        return self._cluster.data / "certificates"

    @property
    def node(self) -> Node:
        assert self._process is not None
        return Node(self.id, self.zone, self.http, self._process.pid)

    def prepare(self) -> None:
        """Its certificate, from the authority that the cluster has had from the beginning; its settings."""
        command = ["certificates", "create", "--cluster", "demo", "--out", str(self.certificates)]
        subprocess.run(
            [sys.executable, "-m", "node.main", *command, "--nodes", self.id], check=True, capture_output=True
        )
        self.directory.mkdir()
        base = self._cluster.port
        known = f"n0,zone-a,127.0.0.1:{base + RAFT_PORT_OFFSET},http://127.0.0.1:{base}"
        settings: dict[str, object] = {
            "node_id": self.id,
            "cluster": "demo",
            "zone": self.zone,
            "data_dir": str(self.directory / "data"),
            "log_key_file": str(self._cluster.data / "log-key.pem"),
            "http_port": int(self.http.rpartition(":")[2]),
            "raft_port": int(self.raft.rpartition(":")[2]),
            "raft_ca_file": str(self.certificates / "ca.pem"),
            "raft_certificate_file": str(self.certificates / f"{self.id}.pem"),
            "raft_key_file": str(self.certificates / f"{self.id}-key.pem"),
            "join": True,
            "peers": [known],
        }
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        (self.directory / "steled.toml").write_text("".join(lines))

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "node.main",
            "serve",
            "--config",
            str(self.directory / "steled.toml"),
        ]
        with (self.directory / "steled.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """In good order; nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(STOP_TIMEOUT_S)
            self._process = None
            assert code == 0, (self.directory / "steled.log").read_text()[-4000:]

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
