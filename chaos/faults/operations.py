"""What operators do to a running cluster: change its members, its leader, its certificates, its processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from chaos import limits
from chaos.faults.fault import took_effect
from chaos.lab.cluster import CLUSTER, Cluster
from chaos.lab.node import Node
from node import certificates

_RENEWED_DAYS = 3


class MembershipChange:
    """A node is added, promoted once it has caught up, and, to heal, removed: its id is never used again."""

    kind = "membership change"

    def __init__(self, cluster: Cluster) -> None:
        self.targets: tuple[str, ...] = ()
        self._cluster = cluster
        self._node: Node | None = None
        self._done: list[str] = []

    async def inject(self) -> None:
        self._node = node = await self._cluster.spare()
        self.targets = (node.id,)
        await node.start()
        at = self._cluster.network.address(node.id)
        member = {
            "id": node.id,
            "zone": node.zone,
            "raft": f"{at}:{limits.RAFT_PORT}",
            "http": f"{at}:{limits.HTTP_PORT}",
        }
        if not await self._insist("POST", "/v1/cluster/members", member):
            return
        self._done.append("learner")
        # Refused until it has caught up.
        if await self._insist("POST", f"/v1/cluster/members/{node.id}/promote"):
            self._done.append("voter")

    async def heal(self) -> str:
        if self._node is None:
            return ""
        try:
            if await self._insist("DELETE", f"/v1/cluster/members/{self._node.id}"):
                self._done.append("removed")
        finally:
            await self._node.kill()
        whole = self._done == ["learner", "voter", "removed"]
        return f"{self._node.id}: {', '.join(self._done)}" if whole else ""

    async def _insist(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Until it is done, at whichever node answers; changes may be repeated."""
        deadline_s = time.monotonic() + limits.CHANGE_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for node in self._cluster.nodes.values():
                if await self._cluster.ask(method, node, path, body) is not None:
                    return True
            # The answer may have been lost: a second request for it is refused, as the id is retired.
            if method == "DELETE" and await self._cluster.whole():
                return True
            await asyncio.sleep(limits.POLL_S)
        return False


class Transfer:
    """The leadership is handed over, to the node that is most complete."""

    kind = "leadership transfer"

    def __init__(self, cluster: Cluster) -> None:
        self.targets: tuple[str, ...] = ()
        self._cluster = cluster
        self._to = ""

    async def inject(self) -> None:
        await took_effect(self._handed_over)

    async def _handed_over(self) -> bool:
        """Whether it was; refused while nobody leads, or nobody could take over."""
        leader = await self._cluster.leader()
        if leader is None:
            return False
        self.targets = (leader.id,)
        answer = await self._cluster.ask("POST", leader, "/v1/cluster/transfer", {})
        if answer is None or answer["leader"] == leader.id:
            return False
        self._to = str(answer["leader"])
        return True

    async def heal(self) -> str:
        return f"{self.targets[0]} handed over to {self._to}" if self._to else ""


class RollingRestart:
    """Every node in turn is stopped in good order and started, the next one when all are back."""

    kind = "rolling restart"

    def __init__(self, cluster: Cluster) -> None:
        self.targets = tuple(cluster.nodes)
        self._cluster = cluster
        self._restarted: list[str] = []

    async def inject(self) -> None:
        for node in self._cluster.nodes.values():
            await self._cluster.until_whole()
            before = node.pid
            await node.terminate()
            await node.start()
            self._restarted.append(f"{node.id} (pid {before} to {node.pid})")

    async def heal(self) -> str:
        whole = len(self._restarted) == len(self._cluster.nodes)
        return ", ".join(self._restarted) if whole else ""


class CertificateRotation:
    """Every node gets a new key and certificate while it runs; links made from then on use them.

    One node is restarted, so that there are such links.
    """

    kind = "certificate rotation"

    def __init__(self, cluster: Cluster, restarted: Node) -> None:
        self.targets = tuple(cluster.nodes)
        self._cluster = cluster
        self._restarted = restarted
        self._log_from: dict[str, int] = {}

    async def inject(self) -> None:
        # A node that is still starting would find the new files as its first ones, and take up nothing.
        await self._cluster.until_whole()
        self._log_from = {
            node.id: node.log_size_bytes
            for node in self._cluster.nodes.values()
            if node is not self._restarted
        }
        folder, ids = self._cluster.certificates, list(self._cluster.nodes)
        await asyncio.to_thread(
            certificates.renew, folder, CLUSTER, ids, _RENEWED_DAYS, within_days=_RENEWED_DAYS
        )
        await self._restarted.terminate()
        await self._restarted.start()
        await took_effect(self._taken_up)

    async def _taken_up(self) -> bool:
        """Whether all that went on running say so. Each has a link to the one that was restarted."""
        return bool(self._log_from) and all(
            self._cluster.nodes[node_id].log_contains(b"new certificate from", start)
            for node_id, start in self._log_from.items()
        )

    async def heal(self) -> str:
        await self._restarted.start()
        taken_up = await self._taken_up()
        await self._cluster.until_whole()
        return f"{', '.join(self._log_from)} took up new certificates while running" if taken_up else ""
