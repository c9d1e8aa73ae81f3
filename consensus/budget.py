"""A rate: how many bytes may go now, so that over time no more go than are allowed a second."""

from __future__ import annotations

from collections.abc import Callable

_BURST_S = 0.1


class Budget:
    """A token bucket that holds a tenth of a second's worth. What is spent may exceed what is left; the debt
    is waited for. `clock` gives monotonic seconds."""

    def __init__(self, rate_bytes_s: float, clock: Callable[[], float]) -> None:
        self._rate_bytes_s = rate_bytes_s
        self._clock = clock
        self._left_bytes = rate_bytes_s * _BURST_S
        self._filled_at = clock()

    def open(self) -> bool:
        """Whether anything may be spent now."""
        now = self._clock()
        filled = self._left_bytes + (now - self._filled_at) * self._rate_bytes_s
        self._left_bytes = min(filled, self._rate_bytes_s * _BURST_S)
        self._filled_at = now
        return self._left_bytes > 0

    def spend(self, size_bytes: int) -> None:
        self._left_bytes -= size_bytes
