"""Wrong clocks: libfaketime between one node and its wall clock. The monotonic clock stays right."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp

from chaos.faults.fault import took_effect
from chaos.lab.node import Node

_LIBRARIES = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"),
)
_ANSWER_TIMEOUT_S = 5.0


def library() -> Path | None:
    """libfaketime for programs with threads, if it is installed."""
    return next((path for path in _LIBRARIES if path.exists()), None)


class ClockSkew:
    """The wall clock of a node jumps by `offset_s`, and back when it is healed.

    The node is restarted with libfaketime, and once more without it.
    """

    kind = "clock skew"

    def __init__(self, node: Node, faketime: Path, offset_s: int) -> None:
        self.targets = (node.id,)
        self._node = node
        self._faketime = faketime
        self._offset_s = offset_s
        self._before = dict(node.environment)
        self._found_s: float | None = None

    async def inject(self) -> None:
        preload = [str(self._faketime), self._before.get("LD_PRELOAD", "")]
        self._node.environment |= {
            "LD_PRELOAD": " ".join(each for each in preload if each),
            "FAKETIME": f"{self._offset_s:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        await self._node.kill()
        await self._node.start()
        # How long it is held counts from when it serves with the wrong clock.
        await took_effect(self._dated_wrongly)

    async def _dated_wrongly(self) -> bool:
        found_s = await self._skew_s()
        # An answer that takes its time seems to come from a clock that is behind.
        if found_s is None or abs(found_s - self._offset_s) > abs(self._offset_s) / 2:
            return False
        self._found_s = found_s
        return True

    async def heal(self) -> str:
        self._node.environment = self._before
        await self._node.kill()
        await self._node.start()
        return "" if self._found_s is None else f"its answers were dated {self._found_s:+.0f} s"

    async def _skew_s(self) -> float | None:
        """How far the Date of an answer is from our own clock."""
        url = f"{self._node.http}/livez"
        try:
            async with aiohttp.request(
                "GET", url, timeout=aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
            ) as answer:
                return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
            return None
