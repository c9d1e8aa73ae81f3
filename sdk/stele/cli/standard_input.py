"""Standard input, read so that Ctrl-C ends the wait for it whenever it comes.

Python raises KeyboardInterrupt between two of its instructions, or when the signal breaks off a system call.
A signal that comes when the thread is on its way into `read` does neither: the command would hang until
somebody writes. So what is waited for is the input or a byte in a pipe, which comes with the signal
(signal.set_wakeup_fd).
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

_WOKEN_SIZE_BYTES = 4_096


class _Interruptible(io.RawIOBase):
    def __init__(self, descriptor: int, woken: int) -> None:
        self._descriptor = descriptor
        self._woken = woken

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while True:
            ready, _, _ = select.select([self._descriptor, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, _WOKEN_SIZE_BYTES)  # What the signal means is raised by now, or nothing.
            if self._descriptor in ready:
                return os.readv(self._descriptor, [buffer])


@contextmanager
def standard_input() -> Iterator[BinaryIO]:
    """As it is, where it is no file or signals cannot be waited for (outside the main thread)."""
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # Something in memory stands in for it.
        descriptor = None
    if descriptor is None or os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield sys.stdin.buffer
        return
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield io.BufferedReader(_Interruptible(descriptor, woken))
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)
