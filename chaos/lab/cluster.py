"""The nodes of a laboratory, as one cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from chaos import limits
from chaos.lab import disk
from chaos.lab.network import Network
from chaos.lab.node import Node, Place
from node import certificates
from node.signing_keys import create_log_key

CLUSTER = "chaos"
_CERTIFICATE_DAYS = 2


class NotWhole(TimeoutError):
    """A cluster to which nothing is being done does not become whole; the message has what it looks like."""


def zones_of(nodes: int, zones: int) -> dict[str, str]:
    """Nodes n0, n1, … spread over zone-a, zone-b, … in turn. Raises ValueError."""
    if not 1 <= nodes <= limits.NODES_MAX:
        raise ValueError(f"nodes: must be 1 to {limits.NODES_MAX}, got {nodes}")
    if not 1 <= zones <= min(nodes, limits.ZONES_MAX):
        raise ValueError(f"zones: must be 1 to {min(nodes, limits.ZONES_MAX)}, got {zones}")
    return {f"n{number}": f"zone-{chr(ord('a') + number % zones)}" for number in range(nodes)}


class Cluster:
    """Real nodes with mutual TLS, each with its directory under `folder`. Starts and stops only its own."""

    def __init__(
        self, folder: Path, zones: Mapping[str, str], network: Network, *, images: bool = False
    ) -> None:
        self.folder = folder
        self.network = network
        self._images = images
        self.zones = dict(zones)
        folder.mkdir(parents=True, exist_ok=True)
        self._log_key = folder / "log-key.pem"
        create_log_key(self._log_key)
        self.certificates = folder / "certificates"
        certificates.create(self.certificates, CLUSTER, list(zones), _CERTIFICATE_DAYS)
        self.nodes = {
            node_id: Node(self._place(node_id, zone), network, self._settings(node_id, zone, zones))
            for node_id, zone in zones.items()
        }
        self._joined: list[Node] = []
        self._shim = disk.build(folder)
        for node in self.nodes.values():
            self._use_shim(node)

    def _place(self, node_id: str, zone: str) -> Place:
        return Place(node_id, zone, self.folder / node_id, self._images)

    def _use_shim(self, node: Node) -> None:
        if self._shim is not None:
            node.use_disk(self._shim)

    async def spare(self) -> Node:
        """A node more, not started, that waits to be added; never one of `nodes`. Its id is new."""
        node_id = f"n{len(self.nodes) + len(self._joined)}"
        zone = sorted(set(self.zones.values()))[len(self._joined) % len(set(self.zones.values()))]
        await self.network.add(node_id, zone)
        certificates.create(self.certificates, CLUSTER, [node_id], _CERTIFICATE_DAYS)
        settings = {**self._settings(node_id, zone, self.nodes), "join": True}
        node = Node(self._place(node_id, zone), self.network, settings)
        if node.image is not None:
            await node.image.make()
        self._use_shim(node)
        self._joined.append(node)
        return node

    def _peer(self, source: str, node_id: str) -> str:
        address = self.network.dial(source, node_id)
        raft, http = f"{address}:{limits.RAFT_PORT}", f"http://{address}:{limits.HTTP_PORT}"
        return f"{node_id},{self.zones[node_id]},{raft},{http}"

    def _settings(self, node_id: str, zone: str, peers: Iterable[str]) -> dict[str, object]:
        files = certificates.credential_files(self.certificates, node_id)
        address = self.network.address(node_id)
        return {
            "node_id": node_id,
            "cluster": CLUSTER,
            "zone": zone,
            "data_dir": str(self._place(node_id, zone).data),
            "log_key_file": str(self._log_key),
            "http_host": address,
            "http_port": limits.HTTP_PORT,
            "raft_host": address,
            "raft_port": limits.RAFT_PORT,
            "peers": [self._peer(node_id, each) for each in peers],
            "raft_ca_file": str(files.authority),
            "raft_certificate_file": str(files.certificate),
            "raft_key_file": str(files.key),
            # HTTP has no TLS yet and must leave the loopback: into a network that this process made itself.
            "insecure": True,
        }

    async def start(self) -> None:
        """Starts every node and returns once all are ready. Raises TimeoutError."""
        await self.network.start()
        for node in self.nodes.values():
            if node.image is not None:
                await node.image.make()
            await node.start()
        await self.until_ready(list(self.nodes))

    async def stop(self) -> None:
        """Ends every process that was started; none is left behind, whatever happened."""
        every = [*self.nodes.values(), *self._joined]
        for node in every:
            node.resume()
            if node.disk is not None:
                node.disk.set("none")
        await asyncio.gather(*(node.terminate() for node in every), return_exceptions=True)
        await asyncio.gather(*(node.kill() for node in every))
        await self.network.stop()

    @property
    def endpoints(self) -> list[str]:
        return [node.http for node in self.nodes.values()]

    async def until_ready(self, node_ids: Sequence[str]) -> None:
        """Raises TimeoutError, which names the node that does not become ready."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for node_id in node_ids:
                try:
                    async with asyncio.timeout(limits.READY_TIMEOUT_S):
                        while not await _answers(session, f"{self.nodes[node_id].http}/readyz"):
                            await asyncio.sleep(limits.POLL_S)
                except TimeoutError as error:
                    log_file = self.nodes[node_id].place.log_file
                    raise TimeoutError(f"{node_id} does not become ready; see {log_file}") from error

    async def status(self, node_id: str) -> dict[str, Any] | None:
        """GET /v1/cluster as that node answers it; None when it does not."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            try:
                async with session.get(f"{self.nodes[node_id].http}/v1/cluster") as answer:
                    status: dict[str, Any] = await answer.json()
                    return status if answer.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                return None

    async def members(self) -> dict[str, dict[str, Any]]:
        """The members as a confirmed leader sees them; empty when there is none."""
        for node in self.nodes.values():
            found = await self.ask("GET", node, "/v1/cluster?consistency=strong")
            if found is not None:
                return {each["id"]: each for each in found["members"]}
        return {}

    async def whole(self) -> bool:
        """Whether every node is a voter that has the whole log, and nobody else is a member."""
        return self._is_whole(await self.members())

    def _is_whole(self, members: Mapping[str, Mapping[str, Any]]) -> bool:
        return set(members) == set(self.nodes) and all(
            each["voter"] and each["healthy"] and each.get("caught_up", True) for each in members.values()
        )

    async def until_whole(self) -> None:
        """Waits for `whole`. Raises NotWhole."""
        seen: Mapping[str, Mapping[str, Any]] = {}
        try:
            async with asyncio.timeout(limits.CONVERGE_TIMEOUT_S):
                while not self._is_whole(seen := await self.members()):
                    await asyncio.sleep(limits.POLL_S)
        except TimeoutError as error:
            dead = [node.id for node in self.nodes.values() if node.pid is None]
            raise NotWhole(
                f"not whole after {limits.CONVERGE_TIMEOUT_S:.0f} s: members {seen}, not running {dead}"
            ) from error

    async def ask(
        self, method: str, node: Node, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any] | None:
        """The JSON answer of one node's API, {} when it has none; None when it fails or refuses."""
        timeout = aiohttp.ClientTimeout(total=limits.ADMINISTRATION_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.request(method, f"{node.http}{path}", json=body) as answer:
                    if answer.status >= 400:
                        return None
                    found: dict[str, Any] = {} if answer.status == 204 else await answer.json()
                    return found
            except (aiohttp.ClientError, TimeoutError):
                return None

    async def leader(self) -> Node | None:
        """The node that calls itself leader in the highest term; None when nobody does."""
        told = await asyncio.gather(*(self.status(node_id) for node_id in self.nodes))
        leading = [
            (status["term"], node)
            for node, status in zip(self.nodes.values(), told, strict=True)
            if status is not None and status["leader"] == node.id
        ]
        return max(leading, key=lambda each: int(each[0]))[1] if leading else None


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
