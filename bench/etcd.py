"""etcd 3.4 with three members on the loopback, over its JSON gateway.

Keys and values travel in base64, as the gateway demands:
https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
"""

import asyncio
import json
import shutil
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import limits, processes
from bench.bulk import Loaded
from bench.connection import Address, BenchmarkError, ask, measure, request
from bench.documents import DOCUMENT_BYTES, key
from bench.peer import Load

MEMBERS = 3


def installed() -> bool:
    return shutil.which("etcd") is not None


class Etcd:
    name = "etcd"
    loads: Sequence[Load] = tuple(
        Load("transactions of 128 puts", streams) for streams in limits.BULK_STREAMS
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = processes.free_ports(*range(2 * MEMBERS))
        self._members: list[subprocess.Popen[bytes]] = []
        told = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True)
        self.version = told.stdout.splitlines()[0].removeprefix("etcd Version: ")
        self.command = "three times: etcd --name … --data-dir … (defaults otherwise), JSON gateway /v3/kv"

    def _client_port(self, number: int) -> int:
        return self._port + number

    def _peer_url(self, number: int) -> str:
        return f"http://127.0.0.1:{self._port + MEMBERS + number}"

    async def start(self) -> None:
        members = ",".join(f"m{number}={self._peer_url(number)}" for number in range(MEMBERS))
        for number in range(MEMBERS):
            client_url = f"http://127.0.0.1:{self._client_port(number)}"
            options = {
                "name": f"m{number}",
                "data-dir": str(self._folder / f"m{number}"),
                "listen-client-urls": client_url,
                "advertise-client-urls": client_url,
                "listen-peer-urls": self._peer_url(number),
                "initial-advertise-peer-urls": self._peer_url(number),
                "initial-cluster": members,
                "initial-cluster-state": "new",
                "log-level": "error",
            }
            command = ["etcd", *(f"--{name}={value}" for name, value in options.items())]
            self._members.append(processes.start(command, self._folder / f"m{number}.log"))
        deadline_s = time.monotonic() + limits.START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                await self.leader()
                return
            except (OSError, BenchmarkError):
                await asyncio.sleep(0.1)
        raise BenchmarkError(f"etcd did not come up; see {self._folder}")

    def stop(self) -> None:
        processes.stop(self._members)

    async def leader(self) -> Address:
        for number in range(MEMBERS):
            address = Address("127.0.0.1", self._client_port(number))
            status, body = await ask(address, request("POST", "/v3/maintenance/status", b"{}"))
            told: dict[str, Any] = json.loads(body) if status == 200 else {}
            if told and told.get("leader", "0") == told["header"]["member_id"]:
                return address
        raise BenchmarkError("no etcd member leads")

    def pids(self) -> Sequence[int]:
        return [member.pid for member in self._members]

    def puts(self) -> Sequence[bytes]:
        return [request("POST", "/v3/kv/put", put_body(number)) for number in range(limits.KEYS)]

    def gets(self) -> Sequence[bytes]:
        # "serializable" absent means linearizable.
        bodies = (json.dumps({"key": encoded(key(number).encode())}) for number in range(limits.KEYS))
        return [request("POST", "/v3/kv/range", body.encode()) for body in bodies]

    async def load(self, load: Load, documents: int, seconds: float) -> Loaded:
        """etcd has no bulk load: it takes the largest transactions it allows, over parallel connections."""
        size = limits.ETCD_TRANSACTION_OPERATIONS
        bodies = (
            transaction_body(range(first, first + size)) for first in range(0, limits.KEYS - size, size)
        )
        requests = [request("POST", "/v3/kv/txn", body) for body in bodies]
        result = await measure(await self.leader(), requests, connections=load.streams, seconds=seconds)
        if result.refused:
            raise BenchmarkError(f"etcd refused a transaction: {result.first_refusal}")
        return Loaded(size * len(result.latencies_s), result.elapsed_s)

    async def check(self) -> None:
        leader = await self.leader()
        await ask(leader, self.puts()[0])
        status, body = await ask(leader, self.gets()[0])
        if status != 200 or b64decode(json.loads(body)["kvs"][0]["value"]) != DOCUMENT_BYTES:
            raise BenchmarkError(f"etcd did not give back what was written: {status} {body[:300]!r}")


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


def put_body(number: int) -> bytes:
    return json.dumps({"key": encoded(key(number).encode()), "value": encoded(DOCUMENT_BYTES)}).encode()


def transaction_body(numbers: range) -> bytes:
    puts = [{"requestPut": json.loads(put_body(number))} for number in numbers]
    return json.dumps({"success": puts}).encode()
