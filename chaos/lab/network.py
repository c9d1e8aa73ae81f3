"""What the laboratory asks of a network between zones; `namespaces.py` and `proxies.py` are two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

Link = tuple[str, str]
"""A directed link: who sends, who would receive. Ids of nodes, or CLIENTS."""

CLIENTS = "clients"


class Network(Protocol):
    """The wires between nodes and clients. Faults replace one another: each call states all that holds."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Leaves nothing behind. Safe to call twice."""
        ...

    async def add(self, node_id: str, zone: str) -> None:
        """One node more, in a zone that there is."""
        ...

    def address(self, node_id: str) -> str:
        """Where a node's servers listen."""
        ...

    def dial(self, source: str, target: str) -> str:
        """Where `source`, a node or CLIENTS, reaches the servers of `target`."""
        ...

    def command(self, node_id: str, command: list[str]) -> list[str]:
        """How to run `command` as that node."""
        ...

    async def block(self, links: Iterable[Link]) -> None:
        """From now on these links drop everything, and all others nothing."""
        ...

    async def lose(self, links: Iterable[Link], percent: int) -> None:
        """From now on these links drop that share of their packets, besides those that are blocked."""
        ...

    async def dropped(self) -> int:
        """Packets dropped, or held back, since the last change: the evidence that a fault took effect."""
        ...
