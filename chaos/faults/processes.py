"""Faults of processes: killed, paused, all of a zone at once."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.faults.fault import took_effect
from chaos.lab.cluster import Cluster
from chaos.lab.node import Node


class Kill:
    """kill -9; heal starts the nodes again."""

    def __init__(self, nodes: Sequence[Node], kind: str = "kill") -> None:
        self.kind = kind
        self.targets = tuple(node.id for node in nodes)
        self._nodes = nodes
        self._killed: list[str] = []

    async def inject(self) -> None:
        for node in self._nodes:
            pid = node.pid
            if await node.kill():
                self._killed.append(f"{node.id} (pid {pid})")

    async def heal(self) -> str:
        for node in self._nodes:
            await node.start()
        return f"killed {', '.join(self._killed)}" if self._killed else ""


class Pause:
    """SIGSTOP; heal lets the nodes go on, as after a long stall of a virtual machine."""

    kind = "pause"

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.targets = tuple(node.id for node in nodes)
        self._nodes = nodes
        self._paused: list[str] = []

    async def inject(self) -> None:
        for node in self._nodes:
            if node.pause():
                self._paused.append(node.id)

    async def heal(self) -> str:
        for node in self._nodes:
            node.resume()
        return f"paused {', '.join(self._paused)}" if self._paused else ""


class Restart:
    """A planned stop (SIGTERM) and a start: the leadership is handed over."""

    kind = "restart"

    def __init__(self, node: Node) -> None:
        self.targets = (node.id,)
        self._node = node
        self._exit_code: int | None = None

    async def inject(self) -> None:
        # One that has only just been started does not know yet what SIGTERM means.
        await took_effect(self._node.serves)
        await self._node.terminate()
        self._exit_code = self._node.exit_code

    async def heal(self) -> str:
        await self._node.start()
        return "stopped in good order" if self._exit_code == 0 else ""


def zone_lost(cluster: Cluster, zone: str) -> Kill:
    """Every node of a zone dies at once."""
    return Kill([node for node in cluster.nodes.values() if node.zone == zone], "zone lost")
