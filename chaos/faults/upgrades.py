"""A rolling upgrade to another build, and back: two versions at work side by side, under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from chaos import limits
from chaos.lab.builds import python_path
from chaos.lab.cluster import Cluster
from chaos.lab.node import Node


class RollingUpgrade:
    """Every node in turn is stopped and started with another build, the next one when all are back; to heal,
    back again, as an operator would who does not like what he sees."""

    kind = "rolling upgrade"

    def __init__(self, cluster: Cluster, build: Sequence[Path]) -> None:
        self.targets = tuple(cluster.nodes)
        self._cluster = cluster
        self._build = build
        self._before: dict[str, str | None] = {}
        self._seen: list[str] = []

    async def inject(self) -> None:
        for node in self._cluster.nodes.values():
            was = await self._version(node)
            path = node.environment.get("PYTHONPATH")
            await self._cluster.until_whole()
            self._before[node.id] = path
            others = [path] if path else []
            await self._restart(node, ":".join([python_path(self._build), *others]))
            became = await self._version(node)
            if became and became != was:
                self._seen.append(f"{node.id} {was} to {became}")

    async def heal(self) -> str:
        back: list[str] = []
        for node_id, path in self._before.items():
            node = self._cluster.nodes[node_id]
            upgraded = await self._version(node)
            await self._cluster.until_whole()
            await self._restart(node, path)
            if await self._version(node) != upgraded:
                back.append(node_id)
        whole = len(self._seen) == len(back) == len(self._cluster.nodes)
        return f"{', '.join(self._seen)}; and all of them back" if whole else ""

    async def _restart(self, node: Node, path: str | None) -> None:
        if path is None:
            node.environment.pop("PYTHONPATH", None)
        else:
            node.environment["PYTHONPATH"] = path
        await node.terminate()
        await node.start()

    async def _version(self, node: Node) -> str:
        """What the node says it is; waits for one that is starting. Empty when it does not say."""
        deadline_s = time.monotonic() + limits.READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            told = await self._cluster.ask("GET", node, "/version")
            if told is not None:
                return str(told["version"])
            await asyncio.sleep(limits.POLL_S)
        return ""
