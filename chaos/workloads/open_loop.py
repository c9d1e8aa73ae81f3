"""An open loop: operations begin at their times, however long those before them take.

Closed loops wait when the cluster stands still, and so hardly notice it ("coordinated omission", Gil Tene):
here every operation that a stop delays is seen to be late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from chaos import limits
from chaos.workloads.client import Client


class OpenLoop:
    """Poisson arrivals. Each takes a free one of `clients`; without one it is shed, and counted."""

    def __init__(self, clients: Sequence[Client], act: Callable[[Client], Awaitable[object]]) -> None:
        self.shed = 0
        self._rng = clients[0].rng
        self._free = list(clients)
        self._act = act

    async def run(self, stopped: asyncio.Event) -> None:
        """Until `stopped`, and all that is under way has ended."""
        async with asyncio.TaskGroup() as tasks:
            due_s = asyncio.get_running_loop().time()
            while not stopped.is_set():
                due_s += self._rng.expovariate(limits.OPEN_PER_S)
                await asyncio.sleep(max(due_s - asyncio.get_running_loop().time(), 0))
                if self._free:
                    tasks.create_task(self._one(self._free.pop()))
                else:
                    self.shed += 1

    async def _one(self, client: Client) -> None:
        try:
            await self._act(client)
        finally:
            self._free.append(client)
