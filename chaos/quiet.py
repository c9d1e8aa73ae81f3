"""The tasks of nodes of whom nothing is asked: before the load, and when all of a run is over."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

import aiohttp

from chaos import limits
from chaos.checkers import leaks

_TASKS = re.compile(rb"^stele_asyncio_tasks ([0-9.e+]+)$", re.MULTILINE)


async def tasks_of(endpoints: Mapping[str, str]) -> dict[str, int]:
    """How many tasks each node's event loop has; a node that does not tell is left out."""
    timeout = aiohttp.ClientTimeout(total=limits.ADMINISTRATION_TIMEOUT_S)
    told: dict[str, int] = {}
    for node, endpoint in endpoints.items():
        try:
            async with aiohttp.request("GET", f"{endpoint}/metrics", timeout=timeout) as answer:
                found = _TASKS.search(await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            continue
        if found is not None:
            told[node] = int(float(found[1]))
    return told


async def tasks_left(endpoints: Mapping[str, str], before: Mapping[str, int]) -> dict[str, int]:
    """As `tasks_of`, once no node has more than it may after what it had `before`, or after QUIET_TIMEOUT_S:
    what was under way may end first."""
    deadline_s = time.monotonic() + limits.QUIET_TIMEOUT_S
    while True:
        after = await tasks_of(endpoints)
        whole = after.keys() == endpoints.keys() and not leaks.check_tasks(before, after)
        if whole or time.monotonic() > deadline_s:
            return after
        await asyncio.sleep(limits.POLL_S)
