"""Joins storage's snapshots with consensus, which knows neither files nor threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from consensus.install import replace_log
from consensus.snapshot import Snapshot, SnapshotFailed, Taken
from storage.errors import SnapshotInvalid, StorageError
from storage.received import ReceivedSnapshot
from storage.snapshot import SnapshotCancelled, StoreSnapshot, StoreSnapshots
from storage.store import Store

_log = structlog.get_logger("node.snapshots")


class Source:
    """Snapshots of this node's store, made on a thread. Satisfies consensus.snapshot.SnapshotSource."""

    def __init__(self, snapshots: StoreSnapshots) -> None:
        self._snapshots = snapshots
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._made: Future[StoreSnapshot] | None = None
        self._cancelled = threading.Event()

    def begin(self) -> None:
        self.release()
        self._cancelled = threading.Event()
        self._made = self._thread.submit(self._snapshots.make, self._cancelled)

    def taken(self) -> Taken | None:
        if self._made is None or not self._made.done():
            return None
        try:
            made = self._made.result()
        except (StorageError, OSError) as error:
            raise SnapshotFailed(str(error)) from error
        return Taken(made.digest, made.size_bytes, made.applied_index)

    def read(self, offset: int, size_bytes: int, /) -> bytes:
        try:
            return self._snapshots.read(offset, size_bytes)
        except (StorageError, OSError) as error:
            raise SnapshotFailed(str(error)) from error

    def release(self) -> None:
        if self._made is not None:
            self._made = None
            self._cancelled.set()
            self._snapshots.release()
            self._thread.submit(self._remove)

    def _remove(self) -> None:
        try:
            self._snapshots.remove()
        except OSError as error:
            _log.error("a snapshot that nobody needs cannot be deleted", reason=str(error))

    async def close(self) -> None:
        """Returns once the thread is done with the store."""
        self.release()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)


class Sink:
    """Receives a snapshot, checks it on a thread, and tells `on_received`, once, that it can be installed.

    `on_fatal` gets what is wrong with one that is as it was sent (F8). Satisfies
    consensus.snapshot.SnapshotSink.
    """

    def __init__(
        self,
        received: ReceivedSnapshot,
        on_received: Callable[[Snapshot], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._received = received
        self._on_received = on_received
        self._on_fatal = on_fatal
        self._checking: asyncio.Task[None] | None = None
        self._cancelled = threading.Event()

    def offset(self, snapshot: Snapshot, /) -> int:
        try:
            return self._received.offset(snapshot.digest, snapshot.size_bytes)
        except (StorageError, OSError) as error:
            raise SnapshotFailed(str(error)) from error

    def write(self, data: bytes, /) -> None:
        try:
            self._received.write(data)
        except (StorageError, OSError) as error:
            raise SnapshotFailed(str(error)) from error

    def finish(self, snapshot: Snapshot, /) -> None:
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check(snapshot))

    async def _check(self, snapshot: Snapshot) -> None:
        _log.info("snapshot received", index=snapshot.index, size_bytes=snapshot.size_bytes)
        try:
            await asyncio.to_thread(self._received.check, snapshot.index, self._cancelled)
        except SnapshotInvalid as error:
            _log.error("the snapshot is dropped, to come again", reason=str(error))
            self.forget()
        except SnapshotCancelled:
            return
        except Exception as error:
            self._on_fatal(error)
        else:
            self._on_received(snapshot)

    def discard(self) -> None:
        if self._checking is None:
            self._received.discard()

    def forget(self) -> None:
        """Drops the snapshot that was checked: it is not what was sent, or no longer needed."""
        self._received.discard()
        self._checking = None

    def install(self, snapshot: Snapshot, store: Store) -> None:
        """Makes the checked snapshot what the next start opens. The replica must have stopped. Raises
        ConsensusError, StorageError and OSError."""
        own_rows = store.raft_rows
        self._received.complete(store, lambda rows: replace_log(rows, own_rows, snapshot))

    async def close(self) -> None:
        """What has come stays, and goes on after the next start."""
        self._cancelled.set()
        if self._checking is not None:
            await self._checking
        self._received.close()
