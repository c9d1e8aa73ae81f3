"""Says in time that a disk fills up: the node on it will have to stop, and leave the others one fewer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from node import limits
from storage.directory import free_size_bytes

_log = structlog.get_logger("node.disk")


class DiskWatch:
    """Looks at the free space of one data directory's disk, until it is stopped."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._short = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def free_size_bytes(self) -> int:
        """Raises OSError."""
        return free_size_bytes(self._data_dir)

    def alarm(self) -> str | None:
        """What is wrong with the disk, if anything is."""
        try:
            free = self.free_size_bytes
        except OSError as error:
            return f"the disk of {self._data_dir} does not say how much of it is free: {error.strerror}"
        if free >= limits.DISK_FREE_ALARM_SIZE_BYTES:
            return None
        return f"{free >> 20} MiB are free on the disk of {self._data_dir}; without any, the node stops"

    async def _run(self) -> None:
        while True:
            alarm = self.alarm()
            if alarm is not None and not self._short:
                _log.error("the disk is nearly full", alarm=alarm)
            self._short = alarm is not None
            await asyncio.sleep(limits.DISK_WATCH_PERIOD_S)
