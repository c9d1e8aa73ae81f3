"""Three replicas on loopback TCP, each with a RocksDB of its own, in one event loop."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from consensus.config import Peer, ReplicaConfig, Timing
from consensus.log_store import LogStore
from consensus.membership import Member
from consensus.replica import Replica
from consensus.tls import MutualTls
from node import certificates
from tests.consensus.rocks import Recorder, RocksStore

DEADLINE_S = 10.0


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.005)


class Cluster:
    """Members n0, n1, n2 in zones z0, z1, z2; stopped and started one by one.

    Behind them, `joining` servers that no member knows of: `start` makes them wait until they are added.

    With `secured`, over mutual TLS; the certificates lie in the folder `certificates`.
    """

    def __init__(
        self,
        path: Path,
        size: int = 3,
        timing: Timing | None = None,
        *,
        secured: bool = False,
        joining: int = 0,
    ) -> None:
        self._path = path
        self._timing = timing or Timing()
        self.secured = secured
        self.certificates = path / "certificates"
        self._sockets = [self._bound_socket(0) for _ in range(size + joining)]
        self.ports = [each.getsockname()[1] for each in self._sockets]
        servers = [Peer(f"n{i}", "127.0.0.1", port, f"z{i}") for i, port in enumerate(self.ports)]
        self.peers, self.joining = tuple(servers[:size]), tuple(servers[size:])
        self.stores: dict[str, RocksStore] = {}
        self.machines = {peer.id: Recorder() for peer in servers}
        self.replicas: dict[str, Replica] = {}
        self.fatal: list[tuple[str, BaseException]] = []
        if secured:
            certificates.create(self.certificates, "test", list(self.machines), days=1)

    @staticmethod
    def _bound_socket(port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    async def __aenter__(self) -> Cluster:
        for peer in self.peers:
            await self.start(peer.id)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for node_id in list(self.replicas):
            await self.stop(node_id)
        for unused in self._sockets:
            unused.close()

    async def lose_disk(self, node_id: str) -> None:
        """Stops a member and takes everything from it; it starts again with nothing."""
        if node_id in self.replicas:
            await self.stop(node_id)
        shutil.rmtree(self._path / node_id)
        self.machines[node_id] = Recorder()
        await self.start(node_id)

    def member(self, node_id: str) -> Member:
        """What to add a server as."""
        peer = next(each for each in (*self.peers, *self.joining) if each.id == node_id)
        return Member(peer.id, peer.zone, peer.host, peer.port)

    async def start(self, node_id: str, log_store: LogStore | None = None, *, contact: str = "n0") -> Replica:
        """A server that joins need know of one member only, its `contact`."""
        number = int(node_id[1:])
        listen_socket = self._sockets[number]
        if listen_socket.fileno() < 0:
            listen_socket = self._sockets[number] = self._bound_socket(self.ports[number])
        self.stores[node_id] = RocksStore(self._path / node_id)
        servers = {peer.id: peer for peer in (*self.peers, *self.joining)}
        joins = servers[node_id] in self.joining
        peers = (servers[contact], servers[node_id]) if joins else self.peers
        replica = Replica(
            ReplicaConfig("test", node_id, peers, self._timing, join=joins),
            log_store or self.stores[node_id],
            self.machines[node_id],
            lambda error: self.fatal.append((node_id, error)),
            tls=self.tls(node_id) if self.secured else None,
            listen_socket=listen_socket,
        )
        self.replicas[node_id] = replica
        await replica.start()
        return replica

    def tls(self, node_id: str) -> MutualTls:
        files = certificates.credential_files(self.certificates, node_id)
        return MutualTls(files, cluster="test", node_id=node_id)

    async def stop(self, node_id: str) -> None:
        await self.replicas.pop(node_id).stop()
        self.stores.pop(node_id).close()

    async def leader(self) -> Replica:
        """The leader that all running members agree on."""
        found: list[Replica] = []

        def agreed() -> bool:
            found[:] = [each for each in self.replicas.values() if each.is_leader]
            ids = {each.leader_id for each in self.replicas.values()}
            return len(found) == 1 and ids == {found[0].status().node_id}

        await until(agreed, "there is one leader")
        return found[0]

    def others(self, replica: Replica) -> list[Replica]:
        return [each for each in self.replicas.values() if each is not replica]
