"""The background scrub: what a ledger's proofs are made of is read and recomputed, slowly, round after round:
blocks with their revisions, current rows and tiles, then the state map's buckets, then checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import structlog

from node import limits
from node.checkpoints import Checkpoints
from storage.errors import StorageError
from storage.scrub import check_block, check_bucket_at, check_checkpoint
from storage.store import Store

_log = structlog.get_logger("node.scrubbing")


class Scrubbing:
    """Scrubs until it is stopped. `on_fatal` is told what is wrong: the node must not go on with it.

    `rows_per_s` bounds its share of the processor; 0 turns it off. `blocks` and `rounds` count what was found
    sound since the start.
    """

    def __init__(
        self,
        store: Store,
        checkpoints: Checkpoints,
        on_fatal: Callable[[BaseException], None],
        *,
        rows_per_s: int,
    ) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._on_fatal = on_fatal
        self._rows_per_s = rows_per_s
        self._task: asyncio.Task[None] | None = None
        self.blocks = 0
        self.rounds = 0

    def start(self) -> None:
        if self._rows_per_s:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause_s = limits.SCRUB_ROWS_AT_ONCE / self._rows_per_s
        try:
            while True:
                for count, _ in enumerate(self._round(), start=1):
                    if count % limits.SCRUB_ROWS_AT_ONCE == 0:
                        await asyncio.sleep(pause_s)
                self.rounds += 1
                await asyncio.sleep(limits.SCRUB_ROUND_PAUSE_S)
        except StorageError as error:
            _log.critical("the scrub found damage", reason=str(error))
            self._on_fatal(error)

    def _round(self) -> Iterator[None]:
        """Checks a row a step. Ledgers may come, grow and go between two steps."""
        for name in [ledger.name for ledger in self._store.ledgers()]:
            yield from self._blocks(name)
            yield from self._buckets(name)
            yield from self._notes(name)

    def _blocks(self, name: str) -> Iterator[None]:
        ledgers, disk = self._store.machine.ledgers, self._store.engine
        seq = 0
        while (state := ledgers.get(name)) is not None and seq < state.size:
            check_block(disk, state, seq)
            seq += 1
            self.blocks += 1
            yield

    def _buckets(self, name: str) -> Iterator[None]:
        ledgers, disk = self._store.machine.ledgers, self._store.engine
        following: int | None = 0
        while following is not None and (state := ledgers.get(name)) is not None:
            following = check_bucket_at(disk, state, following)
            yield

    def _notes(self, name: str) -> Iterator[None]:
        size = 0
        while (state := self._store.machine.ledgers.get(name)) is not None:
            kept = self._store.checkpoints.listed(state.number, size + 1, 1)
            if not kept:
                return
            size, note = kept[0]
            check_checkpoint(state, size, note)
            self._checkpoints.check_kept(name, note)
            yield
