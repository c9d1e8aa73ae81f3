"""Time, transaction ids and salts: the only clock and the only randomness that a command ever sees."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_POOL_SIZE_BYTES = 8 << 10
_SALT_SIZE_BYTES = 32
_ID_ENTROPY_SIZE_BYTES = 10
_LEDGER_ID_SIZE_BYTES = 16


class Stamps:
    """Stamps for commands. Times never go back, whatever the clock does.

    `clock_ns` gives nanoseconds since the epoch; `entropy(n)` gives n unpredictable bytes. Entropy is
    fetched in pools, because one system call a salt would cost more than the salt's hash.
    """

    def __init__(
        self, clock_ns: Callable[[], int] = time.time_ns, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock_ns = clock_ns
        self._entropy = entropy
        self._last_us = 0
        self._pool = b""
        self._used = 0

    def now_us(self) -> int:
        """Microseconds since the epoch, never below the last answer."""
        now = self._clock_ns() // 1000
        if now < self._last_us:
            return self._last_us
        self._last_us = now
        return now

    def salt(self) -> bytes:
        """32 bytes for the commitment of one revision."""
        return self._take(_SALT_SIZE_BYTES)

    def salts(self, count: int) -> list[bytes]:
        """As many salts."""
        taken = self._take(count * _SALT_SIZE_BYTES)
        return [taken[start : start + _SALT_SIZE_BYTES] for start in range(0, len(taken), _SALT_SIZE_BYTES)]

    def ledger_id(self) -> bytes:
        return self._take(_LEDGER_ID_SIZE_BYTES)

    def transaction_id(self, at_us: int) -> bytes:
        """A UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 bits of randomness."""
        random = int.from_bytes(self._take(_ID_ENTROPY_SIZE_BYTES), "big")
        number = (
            (at_us // 1000) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
        )
        return number.to_bytes(16, "big")

    def _take(self, size_bytes: int) -> bytes:
        end = self._used + size_bytes
        if end > len(self._pool):
            self._pool = self._entropy(max(_POOL_SIZE_BYTES, size_bytes))
            end = size_bytes
        self._used = end
        return self._pool[end - size_bytes : end]
