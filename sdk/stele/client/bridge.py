"""From blocking calls to the event loop: one thread runs a private loop, callers wait for it.

`blocking` and `blocking_iterator` turn a method of the asynchronous class into one of the blocking
class. Argument and result types come through, so the blocking classes are a list of names.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from stele.client.errors import SteleError
from stele.client.limits import BRIDGE_BATCH_ITEMS_MAX, BRIDGE_BATCH_S_MAX

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self.sources: set[AsyncGenerator[Any, None]] = set()
        """Generators that blocking iterators draw from."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stele client", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._loop.is_closed()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins `work` on the loop."""
        if self._loop.is_closed():
            work.close()
            raise SteleError("the client is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` on the loop and waits for it; an interrupt of the waiting thread cancels it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancels what still runs, runs `last`, and ends the thread."""
        if self._loop.is_closed():
            last.close()
            return
        try:
            self.run(self._end(last))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self, last: Coroutine[Any, Any, None]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # One after the other: shutdown_asyncgens() would close a generator and the one it draws from at once.
        for source in tuple(self.sources):
            await source.aclose()
        await last
        await asyncio.get_running_loop().shutdown_asyncgens()


class Bridged:
    """Base of the blocking classes: the asynchronous object, and the loop that it lives on."""

    def __init__(self, inner: Any, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """A coroutine method as a blocking one."""

    @wraps(method)
    def call(self: Bridged, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._inner, *args, **kwargs))

    return call


def blocking_iterator(
    method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """An async generator method as an iterator; items cross over many at a time."""

    @wraps(method)
    def call(self: Bridged, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        source = method(self._inner, *args, **kwargs)
        self._loop.sources.add(source)
        try:
            while batch := self._loop.run(_next_batch(source)):
                yield from batch
        finally:
            self._loop.sources.discard(source)
            if not self._loop.closed:  # closing the loop has closed the source
                self._loop.run(_close(source))

    return call


async def _next_batch(source: AsyncGenerator[T, None]) -> list[T]:
    """At least one item, and more as long as they come fast; empty at the end."""
    clock = asyncio.get_running_loop().time
    batch: list[T] = []
    deadline_s = clock() + BRIDGE_BATCH_S_MAX
    async for item in source:
        batch.append(item)
        if len(batch) >= BRIDGE_BATCH_ITEMS_MAX or clock() >= deadline_s:
            break
    return batch


async def _close(source: AsyncGenerator[T, None]) -> None:
    await source.aclose()
