"""Stele: three nodes on the loopback, as `steled demo` starts them."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import bulk, limits, processes
from bench.connection import Address, BenchmarkError, ask, request
from bench.documents import DOCUMENT, DOCUMENT_BYTES, key
from bench.peer import Load

NODES = 3
LEDGER = "/v1/ledgers/bench"
TABLE = f"{LEDGER}/tables/transfers"
# Loads have a ledger of their own: how fast one is depends on how many keys its ledger has.
BULK_LEDGER = "/v1/ledgers/bulk"
BULK_PATH = f"{BULK_LEDGER}/bulk?table=transfers"


class Stele:
    name = "stele"
    loads: Sequence[Load] = (
        *(Load("bulk load, new documents", streams) for streams in limits.BULK_STREAMS),
        Load("bulk load, documents again", 1, again=True),
    )

    def __init__(self, folder: Path, *, insecure: bool = False, seals: bool = True) -> None:
        self._folder = folder
        self._flags = ["--insecure"] if insecure else []
        self._flags += [] if seals else ["--seal-interval-s", "0"]
        # Node i serves HTTP on the base port plus i and replicates on a port 100 above.
        self._port = processes.free_ports(*range(NODES), *range(100, 100 + NODES))
        self._ready_file = folder / "ready.json"
        self._demo: subprocess.Popen[bytes] | None = None
        self._loaded = 0
        self.version = version("stele-server")
        command = f"steled demo --nodes {NODES} --data … --port {self._port}"
        self.command = " ".join([command, *self._flags])

    async def start(self) -> None:
        steled = Path(sys.executable).with_name("steled")
        options = {"--nodes": NODES, "--data": self._folder / "data", "--port": self._port}
        arguments = [str(part) for option in options.items() for part in option] + self._flags
        self._demo = processes.start(
            [str(steled), "demo", *arguments, "--ready-file", str(self._ready_file)],
            self._folder / "demo.log",
        )
        deadline_s = time.monotonic() + limits.START_TIMEOUT_S
        while not self._ready_file.exists():
            if self._demo.poll() is not None or time.monotonic() > deadline_s:
                raise BenchmarkError(f"steled demo did not come up; see {self._folder / 'demo.log'}")
            await asyncio.sleep(0.1)
        leader = await self.leader()
        for path in (LEDGER, TABLE, BULK_LEDGER, f"{BULK_LEDGER}/tables/transfers"):
            status, body = await ask(leader, request("PUT", path, b"{}"))
            if status not in (200, 201):
                raise BenchmarkError(f"PUT {path}: {status} {body[:300]!r}")

    def stop(self) -> None:
        if self._demo is not None:
            processes.stop([self._demo])

    def _ready(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._ready_file.read_text())
        return told

    async def leader(self) -> Address:
        first = address_of(self._ready()["nodes"][0]["http"])
        deadline_s = time.monotonic() + limits.START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            status, body = await ask(first, request("GET", "/v1/cluster"))
            cluster = json.loads(body) if status == 200 else {}
            for node in cluster.get("members", []):
                if node["id"] == cluster["leader"]:
                    return address_of(node["http"])
            await asyncio.sleep(0.1)
        raise BenchmarkError("no Stele node leads")

    async def follower(self) -> tuple[str, int]:
        """Name and process of a node that does not lead, and that clients are not sent to."""
        leader = await self.leader()
        nodes = self._ready()["nodes"]
        chosen = next(each for each in reversed(nodes) if address_of(each["http"]) != leader)
        return chosen["id"], chosen["pid"]

    async def leader_pid(self) -> int:
        leader = await self.leader()
        pid: int = next(each["pid"] for each in self._ready()["nodes"] if address_of(each["http"]) == leader)
        return pid

    def pids(self) -> Sequence[int]:
        return [node["pid"] for node in self._ready()["nodes"]]

    def puts(self) -> Sequence[bytes]:
        paths = (f"{TABLE}/documents/{key(number)}" for number in range(limits.KEYS))
        return [request("PUT", path, DOCUMENT_BYTES) for path in paths]

    def gets(self) -> Sequence[bytes]:
        # Reads are linearizable unless asked otherwise.
        return [request("GET", f"{TABLE}/documents/{key(number)}") for number in range(limits.KEYS)]

    async def load(self, load: Load, documents: int, seconds: float) -> bulk.Loaded:
        first = 0 if load.again else self._loaded
        self._loaded = max(self._loaded, first + documents)
        return await bulk.load(self.leader, BULK_PATH, streams=load.streams, documents=documents, first=first)

    async def check(self) -> None:
        leader = await self.leader()
        await ask(leader, self.puts()[0])
        status, body = await ask(leader, self.gets()[0])
        if status != 200 or json.loads(body)["data"] != DOCUMENT:
            raise BenchmarkError(f"Stele did not give back what was written: {status} {body[:300]!r}")


def address_of(http: str) -> Address:
    """The address in ``http://host:port`` or ``host:port``."""
    host, _, port = http.removeprefix("http://").rstrip("/").rpartition(":")
    return Address(host, int(port))
