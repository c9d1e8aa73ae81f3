"""Holds clients back to what can be judged."""

from __future__ import annotations

import asyncio
import time

_AHEAD_S = 0.005
"""Shorter waits are not worth the sleep."""
_BEHIND_S_MAX = 1.0
"""What a stop of the cluster leaves undone is not made good for longer than this."""


class Pace:
    """So many turns a second at most, shared by all clients."""

    def __init__(self, per_s_max: float) -> None:
        self._step_s = 1 / per_s_max
        self._next_s = 0.0

    async def turn(self) -> None:
        """Returns when it is one's turn."""
        now_s = time.monotonic()
        self._next_s = max(self._next_s, now_s - _BEHIND_S_MAX) + self._step_s
        if self._next_s - now_s > _AHEAD_S:
            await asyncio.sleep(self._next_s - now_s)
