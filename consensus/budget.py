"""A rate: how many bytes may go now, so that over time no more go than are allowed a second."""

from __future__ import annotations

from collections.abc import Callable

from consensus import limits

_BURST_S = 0.1
_PACED_S = 1.0


class Budget:
    """A token bucket that holds a tenth of a second's worth. What is spent may exceed what is left; the debt
    is waited for. `clock` gives monotonic seconds.

    While clients write, less than `rate_bytes_s` is allowed (`pace`): whoever is brought up then costs the
    machines little, and yet gets more than is written, so that it arrives.
    """

    def __init__(self, rate_bytes_s: float, clock: Callable[[], float]) -> None:
        self._rate_bytes_s_max = self._rate_bytes_s = rate_bytes_s
        self._clock = clock
        self._left_bytes = rate_bytes_s * _BURST_S
        self._filled_at = clock()
        self._paced_at = clock()
        self._written_bytes: int | None = None

    def pace(self, written_bytes: int) -> None:
        """Takes how much was written in all, and once a second how much to allow from then on."""
        now = self._clock()
        elapsed_s = now - self._paced_at
        if elapsed_s < _PACED_S:
            return
        before, self._written_bytes, self._paced_at = self._written_bytes, written_bytes, now
        written_bytes_s = 0.0 if before is None else (written_bytes - before) / elapsed_s
        rate_bytes_s = self._rate_bytes_s_max
        if written_bytes_s >= limits.CATCH_UP_WRITTEN_BYTES_S_MIN:
            paced = limits.CATCH_UP_PACE_FACTOR * written_bytes_s
            rate_bytes_s = min(rate_bytes_s, max(paced, limits.CATCH_UP_PACED_RATE_BYTES_S_MIN))
        self._rate_bytes_s = rate_bytes_s

    def open(self) -> bool:
        """Whether anything may be spent now."""
        now = self._clock()
        filled = self._left_bytes + (now - self._filled_at) * self._rate_bytes_s
        self._left_bytes = min(filled, self._rate_bytes_s * _BURST_S)
        self._filled_at = now
        return self._left_bytes > 0

    def spend(self, size_bytes: int) -> None:
        """Of entries, which the receiver applies."""
        self._left_bytes -= size_bytes

    def spend_on_files(self, size_bytes: int) -> None:
        """Of a snapshot, which is only written down: a paced rate allows more of it."""
        rate_bytes_s = min(self._rate_bytes_s_max, limits.SNAPSHOT_PACE_FACTOR * self._rate_bytes_s)
        self._left_bytes -= size_bytes * self._rate_bytes_s / rate_bytes_s
