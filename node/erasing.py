"""Completing erasures: what was erased must leave this node's Raft log and its files.

An erasure takes effect for readers when it is applied. Its payload still lies in the Raft entries that
brought it, in the write-ahead log and in files that RocksDB has not rewritten; each node clears its own,
in the background, and remembers when it was done (docs/adr/0012).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from consensus.config import ReplicaStatus
from consensus.errors import ConsensusError, ReplicaStopped
from node import limits
from node.committer import CommitError, Committer
from node.stamps import Stamps
from storage.errors import FilesRemain
from storage.store import PendingErasure, Store

_log = structlog.get_logger("node.erasing")

Waiting = Literal["log", "files"]
"""What a node still has to clear: its Raft log, or after that its files."""


class Log(Protocol):
    """What erasing needs of a replica (consensus.replica.Replica)."""

    @property
    def is_leader(self) -> bool: ...

    def compact_to(self, index: int) -> None: ...

    def status(self) -> ReplicaStatus: ...


class Erasing:
    """Completes this node's erasures until it is stopped. `on_fatal` is told of what must end the node."""

    def __init__(
        self,
        store: Store,
        log: Log,
        committer: Committer,
        stamps: Stamps,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._log = log
        self._committer = committer
        self._stamps = stamps
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        self._rewriting: asyncio.Future[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Begin nothing more, and return when nothing here uses the store any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._rewriting is not None:
            await asyncio.wait([self._rewriting])

    def waiting_for(self, index: int) -> Waiting:
        """What holds up an erasure that Raft entry `index` brought and this node has not completed."""
        return "log" if self._log.status().first_index <= index else "files"

    async def _run(self) -> None:
        try:
            while True:
                await asyncio.sleep(limits.ERASURE_POLL_S)
                await self._advance(self._store.pending_erasures())
        except ReplicaStopped:
            return
        except Exception as error:
            self._on_fatal(error)

    async def _advance(self, pending: list[PendingErasure]) -> None:
        """One step with all that is pending: as far as it goes without waiting for other nodes."""
        if not pending:
            return
        index = max(each.row.raft_index for each in pending)
        self._log.compact_to(index)
        # A log is never empty: something must follow the entry that is to go, and only a leader can add it.
        if self._log.is_leader and self._store.machine.applied_index <= index:
            with contextlib.suppress(ConsensusError, CommitError):
                await self._committer.settle()
        ready = [each for each in pending if self.waiting_for(each.row.raft_index) == "files"]
        if ready:
            await self._clear_files(ready[: limits.ERASURES_AT_ONCE_MAX])

    async def _clear_files(self, erasures: list[PendingErasure]) -> None:
        # RocksDB may work for seconds here, and elections do not wait that long.
        rewriting = asyncio.get_running_loop().run_in_executor(None, self._store.rewriting(erasures))
        self._rewriting = rewriting
        try:
            await asyncio.shield(rewriting)
        except FilesRemain as error:
            _log.error("erasures are not complete", reason=str(error))
            await asyncio.sleep(limits.ERASURE_RETRY_S)
            return
        for each in erasures:
            self._store.complete_erasure(each, self._stamps.now_us())
            _log.info("an erasure is complete on this node", ledger=each.ledger, seq=each.seq)
