"""`steled demo`: a whole cluster on one machine, with a sample ledger and a few commands to try."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from node import certificates, limits, sample
from node.config import ConfigInvalid, Peer, check_seal_interval
from node.demo_words import ready_text
from node.drill_desk import DrillDesk, wipe_what_drills_left
from node.signing_keys import create_log_key
from node.supervisor import NodeProcess, Supervisor
from node.trust_policy import policy_text

_RAFT_PORT_OFFSET = 100
_HOST = "127.0.0.1"
_CLUSTER = "demo"


class DemoFailed(Exception):
    """The demo cluster cannot run; the message says why."""


def run_demo(
    *,
    data: Path,
    nodes: int,
    port: int,
    ready_file: Path | None,
    sample: bool,
    insecure: bool,
    allow_erasure: bool,
    seal_interval_s: float,
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. Raises ConfigInvalid or DemoFailed."""
    if not 1 <= nodes <= limits.DEMO_NODES_MAX:
        raise ConfigInvalid(f"nodes: must be 1 to {limits.DEMO_NODES_MAX}, got {nodes}")
    if not 1 <= port <= 65_535 - _RAFT_PORT_OFFSET - nodes:
        raise ConfigInvalid(f"port: must be 1 to {65_535 - _RAFT_PORT_OFFSET - nodes}, got {port}")
    check_seal_interval(seal_interval_s)
    data = data.resolve()
    if not data.exists():
        _check_ports(port, nodes)  # so that a demo that cannot start leaves no directory behind
    with _locked(data):
        if ready_file is not None:
            _prepare_ready_file(ready_file)
        try:
            cluster = DemoCluster(
                data,
                nodes,
                port,
                ready_file,
                insecure=insecure,
                allow_erasure=allow_erasure,
                seal_interval_s=seal_interval_s,
            )
        except OSError as error:
            raise DemoFailed(f"data: {data} cannot be used: {error}") from error
        return asyncio.run(cluster.run(with_sample=sample))


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "demo.lock").open("w")
    except OSError as error:
        raise DemoFailed(f"data: {data} cannot be used: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoFailed(f"data: another demo runs on {data}") from error
        yield


def _prepare_ready_file(path: Path) -> None:
    """See that it can be written, before anything is started, and that nobody takes an old one for ours.

    It is not there for a moment: whoever waits for it would believe that the cluster serves.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
        path.unlink(missing_ok=True)
        temporary = _temporary(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise DemoFailed(f"ready_file: {path} cannot be written: {error}") from error


class DemoCluster:
    """The files, processes and sample ledger of one demo cluster."""

    def __init__(
        self,
        data: Path,
        nodes: int,
        port: int,
        ready_file: Path | None,
        *,
        insecure: bool,
        allow_erasure: bool,
        seal_interval_s: float,
    ) -> None:
        self._data = data
        self._seal_interval_s = seal_interval_s
        self._insecure = insecure
        self._allow_erasure = allow_erasure
        self._ready_file = ready_file
        self._peers = [
            Peer(
                id=f"n{number}",
                zone=f"zone-{chr(ord('a') + number)}",
                raft_host=_HOST,
                raft_port=port + _RAFT_PORT_OFFSET + number,
                http_url=f"http://{_HOST}:{port + number}",
            )
            for number in range(nodes)
        ]
        self._ports = [port + number for number in range(nodes)]
        self._supervisor = Supervisor(self._write_files(), self._write_ready_file, _say)
        self._verifier_key: str | None = None
        self._desk = DrillDesk(data, self._supervisor, self._drilled, self._until_serving, _say)

    async def run(self, *, with_sample: bool) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stopped = asyncio.ensure_future(stop.wait())
        try:
            for node_id in wipe_what_drills_left(self._data):
                _say(f"{node_id} was left altered by a drill; it begins anew, and catches up")
            await self._supervisor.start()
            serving = asyncio.ensure_future(self._bring_up(with_sample))
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                await stopped
            serving.cancel()
        finally:
            stopped.cancel()
            _say("stopping")
            await self._desk.stop()
            await self._supervisor.stop()
            if self._ready_file is not None:
                self._ready_file.unlink(missing_ok=True)
        return 0

    # --- files --------------------------------------------------------------------------------

    def _write_files(self) -> list[NodeProcess]:
        known = sorted(path.name for path in self._data.glob("n*") if path.is_dir())
        wanted = [peer.id for peer in self._peers]
        if known and known != sorted(wanted):
            raise DemoFailed(f"data: {self._data} holds a cluster of {len(known)} nodes, not {len(wanted)}")
        _check_ports(self._ports[0], len(self._ports))
        key_file = self._data / "log-key.pem"
        if not key_file.exists():
            create_log_key(key_file)
        if not self._insecure:
            self._certify(wanted)
        return [
            self._write_node(peer, port, key_file)
            for peer, port in zip(self._peers, self._ports, strict=True)
        ]

    @property
    def _policy_file(self) -> Path:
        return self._data / "trust.policy"

    @property
    def _certificates(self) -> Path:
        return self._data / "certificates"

    def _certify(self, node_ids: list[str]) -> None:
        """A certificate for each node that has none, and for each whose certificate will not last."""
        days = limits.CERTIFICATE_VALID_DAYS
        try:
            certificates.create(self._certificates, _CLUSTER, node_ids, days)
            certificates.renew(
                self._certificates, _CLUSTER, node_ids, days, within_days=limits.DEMO_CERTIFICATE_RENEWAL_DAYS
            )
        except certificates.CertificatesFailed as error:
            raise DemoFailed(str(error)) from error

    def _write_node(self, peer: Peer, port: int, key_file: Path) -> NodeProcess:
        directory = self._data / peer.id
        directory.mkdir(exist_ok=True)
        settings: dict[str, object] = {
            "node_id": peer.id,
            "cluster": _CLUSTER,
            "zone": peer.zone,
            "data_dir": str(directory / "data"),
            "log_key_file": str(key_file),
            "http_host": _HOST,
            "http_port": port,
            "raft_host": _HOST,
            "raft_port": peer.raft_port,
            "peers": [str(each) for each in self._peers],
            "allow_erasure": self._allow_erasure,
            "seal_interval_s": self._seal_interval_s,
            **self._replication_settings(peer.id),
        }
        config_file = directory / "steled.toml"
        # A JSON string, number, truth value or list of strings is also a TOML one.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        config_file.write_text("".join(lines))
        return NodeProcess(peer.id, config_file, directory / "steled.log")

    def _replication_settings(self, node_id: str) -> dict[str, object]:
        if self._insecure:
            return {"insecure": True}
        files = certificates.credential_files(self._certificates, node_id)
        return {
            "raft_ca_file": str(files.authority),
            "raft_certificate_file": str(files.certificate),
            "raft_key_file": str(files.key),
        }

    def _write_ready_file(self) -> None:
        """Tell whoever waits; not before the cluster serves. Replaced in one step."""
        if self._ready_file is None or self._verifier_key is None:
            return
        try:
            _replace_file(self._ready_file, json.dumps(self._described()) + "\n")
        except OSError as error:
            # The nodes serve even so, and must go on being watched.
            _say(f"ready_file: {self._ready_file} cannot be written: {error}")

    def _described(self) -> dict[str, object]:
        return {
            "nodes": [
                {
                    "id": peer.id,
                    "zone": peer.zone,
                    "http": peer.http_url,
                    "pid": self._supervisor.pid(peer.id),
                }
                for peer in self._peers
            ],
            "ledger": sample.LEDGER,
            "verifier_key": self._verifier_key,
        }

    def _drilled(self) -> dict[str, object]:
        return {**self._described(), "policy": str(self._policy_file)}

    # --- the running cluster ------------------------------------------------------------------

    async def _bring_up(self, with_sample: bool) -> None:
        """Wait until the nodes serve, make the sample ledger, and say so."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            try:
                async with asyncio.timeout(limits.DEMO_READY_TIMEOUT_S):
                    await asyncio.gather(*(self._until_ready(session, peer) for peer in self._peers))
                    verifier_key = await self._make_ledger(session, with_sample)
                    await self._write_policy(session, verifier_key)
                    self._verifier_key = verifier_key
            except TimeoutError as error:
                raise DemoFailed(
                    f"the cluster did not come up within {limits.DEMO_READY_TIMEOUT_S:.0f} s; "
                    f"see {self._data}/n*/steled.log"
                ) from error
        await self._desk.start()
        self._write_ready_file()
        sys.stdout.write(ready_text(self._peers, verifier_key, self._policy_file))
        sys.stdout.flush()

    async def _until_serving(self, node_id: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            await self._until_ready(session, next(peer for peer in self._peers if peer.id == node_id))

    async def _until_ready(self, session: aiohttp.ClientSession, peer: Peer) -> None:
        while peer.id not in self._supervisor.given_up:
            try:
                async with session.get(f"{peer.http_url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # it does not listen yet
            if await self._was_removed(session, peer):
                _say(f"{peer.id} was removed from the cluster; it runs, and takes no part")
                return
            await asyncio.sleep(0.05)

    async def _was_removed(self, session: aiohttp.ClientSession, peer: Peer) -> bool:
        """Whether another node that serves knows a membership without it."""
        for other in self._peers:
            if other is not peer and other.id not in self._supervisor.given_up:
                try:
                    async with session.get(f"{other.http_url}/v1/cluster?consistency=strong") as response:
                        if response.status == 200:
                            members = (await response.json())["members"]
                            return all(member["id"] != peer.id for member in members)
                except aiohttp.ClientError:
                    continue  # it does not listen yet
        return False

    async def _make_ledger(self, session: aiohttp.ClientSession, with_sample: bool) -> str:
        """Create the ledger and its table where they are missing; returns the ledger's verifier key."""
        ledger_url = f"/v1/ledgers/{sample.LEDGER}"
        described = await self._until_done(session, "PUT", ledger_url)
        await self._until_done(session, "PUT", f"{ledger_url}/tables/{sample.TABLE}")
        if with_sample:
            await self._until_done(session, "POST", f"{ledger_url}/bulk", b"".join(sample.lines()))
        return str(json.loads(described)["verifier_key"])

    async def _write_policy(self, session: aiohttp.ClientSession, verifier_key: str) -> None:
        """Whom to trust for the sample ledger: the log's key, and a majority of the voters'."""
        while True:
            cluster = json.loads(await self._until_done(session, "GET", "/v1/cluster?consistency=strong"))
            voters = {member["id"] for member in cluster["members"] if member["voter"]}
            answer = json.loads(await self._until_done(session, "GET", "/v1/cluster/keys"))
            keys = {
                each["node"]: each["verifier_keys"][0]
                for each in answer["replicas"]
                if each["state"] == "active" and each["node"] in voters
            }
            if keys.keys() == voters:
                break
            await asyncio.sleep(0.05)
        text = policy_text(verifier_key, keys, required=len(voters) // 2 + 1)
        _replace_file(self._policy_file, text)

    async def _until_done(
        self, session: aiohttp.ClientSession, method: str, path: str, body: bytes | None = None
    ) -> bytes:
        """Ask any node until one answers; each of these requests may be repeated."""
        headers = {"Idempotency-Key": sample.IDEMPOTENCY_KEY}
        while True:
            if len(self._supervisor.given_up) > (len(self._peers) - 1) // 2:
                raise DemoFailed(f"too few nodes start to form a cluster; see {self._data}/n*/steled.log")
            for peer in self._peers:
                try:
                    async with session.request(
                        method, peer.http_url + path, data=body, headers=headers
                    ) as response:
                        answer = await response.read()
                except aiohttp.ClientError:
                    continue
                if response.status < 300 and b'"error"' not in answer:
                    return answer
                if response.status not in (200, 503):
                    raise DemoFailed(f"{method} {path} was answered {response.status}: {answer.decode()}")
            await asyncio.sleep(0.1)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _replace_file(path: Path, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    temporary = _temporary(path)
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _check_ports(port: int, nodes: int) -> None:
    """Raises DemoFailed for a port of any node that somebody else has."""
    for number in range(nodes):
        _check_free(port + number)
        _check_free(port + _RAFT_PORT_OFFSET + number)


def _check_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise DemoFailed(f"port: {port} is in use; choose another with --port") from error


def _say(text: str) -> None:
    sys.stderr.write(f"steled demo: {text}\n")
    sys.stderr.flush()
