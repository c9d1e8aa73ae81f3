"""What clients saw, one operation a line: the record that checkers judge.

Times are monotonic nanoseconds of the one process that drives all clients, so that they compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Outcome = Literal["ok", "refused", "unknown"]
"""Done; certainly not done; or nobody can tell from the answer (a timeout, a lost connection)."""

Kind = Literal[
    "put", "get", "delete", "transfer", "append", "insert", "repeat", "bulk", "as of", "history"
]  # fmt: skip
"""A repeat is an insert sent once more under its Idempotency-Key; a bulk operation is one line of a load."""


class Write(msgspec.Struct, frozen=True, array_like=True):
    """One revision that an operation asked for. `data` is the document; None for a delete."""

    table: str
    key: str
    data: dict[str, object] | None
    version: int | None = None


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """One revision as a history shows it; `data` is None of a delete."""

    version: int
    seq: int
    data: dict[str, object] | None


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request of one client, with all its retries.

    Writes: `writes`, and when it was done `seq` and `as_of`, its block and the time of that; both are missing
    of a line of a load that an earlier attempt had committed. Reads: `table`, `key`, and what was shown:
    `version`, `seq` (the revision's block, None when the answer does not tell) and `data`, None of a deleted
    document; `version` is None when the document never existed. Reads of the past: `as_of_seq`, a block that
    was known to be there, and `as_of`, its time, when it was asked for by that; a history has `shown`, newest
    first.
    """

    client: int
    kind: Kind
    ledger: str
    table: str = ""
    key: str = ""
    writes: tuple[Write, ...] = ()
    invoked_ns: int
    completed_ns: int
    outcome: Outcome
    seq: int | None = None
    version: int | None = None
    data: dict[str, object] | None = None
    over: dict[str, object] | None = None
    """Of a compare-and-set: the document that it was to replace."""
    as_of_seq: int | None = None
    as_of: str = ""
    shown: tuple[Shown, ...] = ()
    attempts: Annotated[int, Meta(ge=1)] = 1
    error: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operation).decode


class HistoryFile:
    """Appends operations to history.jsonl as they end, so that a run that is cut off keeps its history."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def add(self, operation: Operation) -> None:
        self._file.write(_encode(operation) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[Operation]:
    """Raises msgspec.MsgspecError at a line that is no operation."""
    with path.open("rb") as lines:
        for line in lines:
            yield _decode(line)


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    file = HistoryFile(path)
    for operation in operations:
        file.add(operation)
    file.close()
