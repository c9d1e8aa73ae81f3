"""What a checker finds."""

from __future__ import annotations

from typing import NamedTuple

from chaos.history import Operation


class Anomaly(NamedTuple):
    """A promise that was not kept, and the operations that show it."""

    promise: str
    what: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"
