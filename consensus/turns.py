"""Settles a core in turns of the event loop, and lets the disk work on a thread meanwhile.

Everything that happens in one turn of the loop (messages from any number of sockets, any number of
proposals) is settled together in the next: one synced write, one batch a follower. While a large write is
synced, or any on a slow disk, the loop goes on with requests; the messages of other members wait until it is
done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from time import perf_counter

from consensus import limits
from consensus.log_store import LogStore
from consensus.raft_core import Outgoing, RaftCore


class Turns:
    """The turns of one core, on the running event loop.

    `send` gets what may be sent, `on_settled` is called after each settlement, `on_failed` with what ended
    one: nothing is settled after that.
    """

    def __init__(
        self,
        core: RaftCore,
        log_store: LogStore,
        *,
        send: Callable[[Outgoing], None],
        on_settled: Callable[[], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._core = core
        self._log_store = log_store
        self._send = send
        self._on_settled = on_settled
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._sync_took_s = 0.0
        self._wanted = False
        self._stopped = False
        # The settlement whose write is on its way to the disk, and what came meanwhile.
        self._open: Iterator[Outgoing] | None = None
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._waiting_size_bytes = 0

    def schedule(self) -> None:
        """Settles in the next turn of the loop, once for everything that this turn brings."""
        if not self._wanted:
            self._wanted = True
            if self._open is None:
                self._loop.call_soon(self._settle)

    def between(self, act: Callable[[], None], size_bytes: int = 0) -> bool:
        """Calls `act` now, or once the disk is done, in the order of the calls.

        `act` must not raise. False, and it is dropped, when it holds `size_bytes` and too much waits; what
        holds nothing is never dropped.
        """
        if self._open is None and not self._waiting:
            act()
            return True
        full = (
            len(self._waiting) >= limits.MESSAGES_WAITING_MAX
            or self._waiting_size_bytes + size_bytes > limits.MESSAGES_WAITING_SIZE_BYTES_MAX
        )
        if size_bytes and full:
            return False
        self._waiting.append((act, size_bytes))
        self._waiting_size_bytes += size_bytes
        return True

    def stop(self) -> None:
        """Nothing is settled any more."""
        self._stopped = True
        self._waiting.clear()

    async def close(self) -> None:
        """Returns once the thread is done with the log store."""
        self.stop()
        await self._loop.run_in_executor(None, self._thread.shutdown)

    def _settle(self) -> None:
        self._wanted = False
        if not self._stopped and self._open is None:
            self._go_on(self._core.settle())

    def _go_on(self, settlement: Iterator[Outgoing]) -> None:
        self._open = None
        try:
            for outgoing in settlement:
                self._send(outgoing)
                size_bytes = self._core.written_size_bytes
                if not size_bytes:
                    continue
                if not self._syncs_at_once(size_bytes):
                    self._open = settlement
                    self._thread.submit(self._sync).add_done_callback(self._disk_done)
                    return
                self._sync()
                self._core.synced()
        except BaseException as error:
            self._on_failed(error)
            return
        if self._core.unsettled:
            self.schedule()
        self._on_settled()

    def _syncs_at_once(self, size_bytes: int) -> bool:
        """Whether the loop had better wait: a quick disk is done before a thread has told of it."""
        return (
            size_bytes <= limits.SYNCED_AT_ONCE_SIZE_BYTES_MAX
            and self._sync_took_s <= limits.SYNCED_AT_ONCE_S_MAX
        )

    def _sync(self) -> None:
        started_s = perf_counter()
        self._log_store.sync()
        self._sync_took_s = perf_counter() - started_s

    def _disk_done(self, sync: Future[None]) -> None:
        """On the thread."""
        self._loop.call_soon_threadsafe(partial(self._synced, sync.exception()))

    def _synced(self, error: BaseException | None) -> None:
        settlement = self._open
        if self._stopped or settlement is None:
            return
        if error is not None:
            self._open = None
            self._on_failed(error)
            return
        again, self._wanted = self._wanted, False
        self._core.synced()
        self._go_on(settlement)
        while self._waiting and self._open is None and not self._stopped:
            act, size_bytes = self._waiting.popleft()
            self._waiting_size_bytes -= size_bytes
            act()
        if again:
            self.schedule()
