"""What a disk says of its node, whatever the log on it is: which server it makes of it, and for how long that
server has promised to elect nobody.

The row `i`: crc32 of the rest, incarnation (16 bytes), promise in microseconds (8 bytes, integer big-endian).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from consensus.errors import LogCorrupt
from consensus.membership import INCARNATION_SIZE_BYTES

IDENTITY_KEY = b"i"
_BODY = struct.Struct(f">{INCARNATION_SIZE_BYTES}sQ")


class Identity:
    """Staged like the log around it, which puts the row on disk with its next batch.

    `incarnation` (membership.py) is empty until one is drawn, and then never changed. `promise_us` outlives a
    restart, because what was answered under it may (lease.py).
    """

    def __init__(self) -> None:
        self.incarnation = b""
        self.promise_us = 0
        self.staged = False

    def draw(self, random_bytes: Callable[[int], bytes]) -> None:
        """Draws the incarnation of a disk that has none, and only of such a one."""
        if not self.incarnation:
            self.incarnation = random_bytes(INCARNATION_SIZE_BYTES)
            self.staged = True

    def promise(self, promise_us: int) -> None:
        """That whoever has heard a leader elects nobody for so long, from when this is on disk."""
        if promise_us != self.promise_us:
            self.promise_us = promise_us
            self.staged = True

    def body(self) -> bytes:
        return _BODY.pack(self.incarnation, self.promise_us)

    def load(self, body: bytes) -> None:
        """Raises LogCorrupt."""
        if len(body) != _BODY.size:
            raise LogCorrupt("the row of the log's incarnation has a wrong size")
        self.incarnation, self.promise_us = _BODY.unpack(body)
