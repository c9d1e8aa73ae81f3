"""The background scrub: every block of every ledger is read and recomputed, slowly, round after round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import structlog

from node import limits
from storage.errors import StorageError
from storage.scrub import check_block
from storage.store import Store

_log = structlog.get_logger("node.scrubbing")


class Scrubbing:
    """Scrubs until it is stopped. `on_fatal` is told what is wrong: the node must not go on with it.

    `blocks` and `rounds` count what was found sound since the start.
    """

    def __init__(self, store: Store, on_fatal: Callable[[BaseException], None]) -> None:
        self._store = store
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        self.blocks = 0
        self.rounds = 0

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while True:
                for _ in self._round():
                    self.blocks += 1
                    if self.blocks % limits.SCRUB_BLOCKS_AT_ONCE == 0:
                        await asyncio.sleep(limits.SCRUB_PAUSE_S)
                self.rounds += 1
                await asyncio.sleep(limits.SCRUB_ROUND_PAUSE_S)
        except StorageError as error:
            _log.critical("the scrub found damage", reason=str(error))
            self._on_fatal(error)

    def _round(self) -> Iterator[None]:
        """Checks a block a step. Ledgers may come, grow and go between two steps."""
        for name in [ledger.name for ledger in self._store.ledgers()]:
            seq = 0
            while (ledger := self._store.ledger(name)) is not None and seq < ledger.size:
                check_block(self._store.journal(name), seq)
                seq += 1
                yield
