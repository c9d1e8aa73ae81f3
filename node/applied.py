"""Tells readers when this node has applied more: a wrapper around the state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Machine(Protocol):
    """What consensus drives (consensus.state_machine.StateMachine)."""

    @property
    def applied_index(self) -> int: ...

    def apply(self, index: int, payload: bytes) -> object: ...


class AnnouncingMachine:
    """Passes every entry on, then wakes whoever waits for one. Satisfies consensus' StateMachine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], None]] = []

    @property
    def applied_index(self) -> int:
        return self._machine.applied_index

    def on_applied(self, callback: Callable[[], None]) -> None:
        """Call back after every entry; it must not raise."""
        self._callbacks.append(callback)

    def apply(self, index: int, payload: bytes) -> object:
        outcome = self._machine.apply(index, payload)
        for callback in self._callbacks:
            callback()
        if self._waiting:
            woken, self._waiting = self._waiting, []
            for future in woken:
                if not future.done():
                    future.set_result(None)
        return outcome

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition` came true within `timeout_s`; looked at after every entry applied."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    future: asyncio.Future[None] = loop.create_future()
                    self._waiting.append(future)
                    await future
        except TimeoutError:
            return False
        return True
