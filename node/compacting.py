"""When the database merges its newest tables: many at once under load, a few while hardly anybody writes.

A merge writes what lies below again, so under load it waits for many tables. Those that wait cost every read
a look into each, and the next load finds them there. In a quiet time they are merged early, at the expense of
nobody.
"""

from __future__ import annotations

import asyncio

import structlog

from node import limits
from storage.engine import Engine
from storage.errors import StorageFailed
from storage.limits import LEVEL_ZERO_FILES, LEVEL_ZERO_FILES_QUIET

_log = structlog.get_logger("node.compacting")


class Compacting:
    """Looks how much is written, until it is stopped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Returns once nothing more is asked of the database."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        written, quiet_periods, early = self._engine.rows_written, 0, False
        while not await self._stopped_within(limits.COMPACTING_PERIOD_S):
            before, written = written, self._engine.rows_written
            quiet = written - before <= limits.QUIET_ROWS_A_PERIOD_MAX
            quiet_periods = quiet_periods + 1 if quiet else 0
            if early == (quiet_periods >= limits.QUIET_PERIODS_MIN):
                continue
            early = not early
            files = LEVEL_ZERO_FILES_QUIET if early else LEVEL_ZERO_FILES
            try:
                # On a thread: the database keeps its options in a file, which it syncs.
                await loop.run_in_executor(None, self._engine.merge_level_zero_at, files)
            except StorageFailed as error:
                _log.warning("merges stay as they are", reason=str(error))
                return

    async def _stopped_within(self, period_s: float) -> bool:
        try:
            async with asyncio.timeout(period_s):
                return await self._stopping.wait()
        except TimeoutError:
            return False
