"""From a line of a bulk load to an operation, and from a committed chunk to its acknowledgements. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from node import limits
from node.http.bodies import document_problem
from node.http.problems import Problem
from stele.format.canonical import parse
from stele.format.errors import CanonicalError, InvalidName
from stele.format.names import check_document_key
from storage.commands import Operation
from storage.outcomes import Committed

_MEMBERS = frozenset(("op", "table", "key", "data"))
_encode_text = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class LineReader:
    """Reads the lines of one stream.

    `check_table(name)` raises Problem for a table that cannot be written; `new_key()` makes a key for a
    line without one; `new_salt()` gives 32 random bytes.
    """

    def __init__(
        self,
        default_table: str,
        check_table: Callable[[str], None],
        new_key: Callable[[], str],
        new_salt: Callable[[], bytes],
    ) -> None:
        self._default_table = default_table
        self._check_table = check_table
        self._new_key = new_key
        self._new_salt = new_salt

    def read(self, line: bytes) -> Operation:
        """One line's operation. Raises Problem."""
        try:
            value, canonical = parse(line, size_bytes_max=limits.BULK_LINE_SIZE_BYTES_MAX)
        except CanonicalError as error:
            raise document_problem(error, limits.BULK_LINE_SIZE_BYTES_MAX) from error
        if not isinstance(value, dict):
            raise Problem("not-an-object", "a line must be a JSON object")
        if not value.keys() <= _MEMBERS:
            name = min(value.keys() - _MEMBERS)
            raise Problem("invalid-field", f"a line has no member {name!r}", field=name)
        op = _op(value)
        table = value.get("table", self._default_table)
        if not isinstance(table, str):
            raise Problem("invalid-field", "table must be a string", field="table")
        self._check_table(table)
        key = self._key(value, op)
        if op == "delete":
            return Operation(op, table, key, b"", self._new_salt())
        return Operation(op, table, key, _payload(value, canonical), self._new_salt())

    def _key(self, value: dict[str, object], op: str) -> str:
        if "key" not in value:
            if op == "delete":
                raise Problem("invalid-field", "a delete needs a key", field="key")
            return self._new_key()
        key = value["key"]
        if not isinstance(key, str):
            raise Problem("invalid-field", "key must be a string", field="key")
        try:
            return check_document_key(key)
        except InvalidName as error:
            raise Problem("invalid-name", str(error), field="key") from error


def _op(value: dict[str, object]) -> Literal["put", "delete"]:
    op = value.get("op", "put")
    if op == "put":
        if not isinstance(value.get("data"), dict):
            raise Problem("invalid-field", "data must be a JSON object", field="data")
        return "put"
    if op == "delete":
        if "data" in value:
            raise Problem("invalid-field", "a delete has no data", field="data")
        return "delete"
    raise Problem("invalid-field", "op must be put or delete", field="op")


def _payload(value: dict[str, object], canonical: bytes) -> bytes:
    """The canonical bytes of `data`, which leaves `value`, cut out of the line's.

    Canonical members are sorted, and "data" sorts before the other three, which are strings: the line is
    `{"data":` payload, then what the rest encodes to with a comma in place of its opening brace.
    """
    del value["data"]
    end = len(canonical) - (len(_encode_sorted(value)) if value else 1)
    payload = canonical[len(b'{"data":') : end]
    if len(payload) > limits.DOCUMENT_SIZE_BYTES_MAX:
        raise Problem(
            "body-too-large",
            f"a document may have at most {limits.DOCUMENT_SIZE_BYTES_MAX} bytes",
            field="data",
            limit=limits.DOCUMENT_SIZE_BYTES_MAX,
        )
    return payload


class Chunk:
    """Lines that go into one transaction, and those between them that were refused."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.first_line = 0
        """Number of the first operation's line."""
        self.last_line = 0
        """Number of the last operation's line."""
        self.full = False
        """Whether it is to go: there is enough in it, or a delete, which goes alone because one of nothing
        refuses its whole transaction."""
        self._size_bytes = 0
        self._answers: list[tuple[int, Problem | None]] = []

    @property
    def lines(self) -> int:
        return len(self._answers)

    def add(self, line: int, operation: Operation) -> None:
        if not self.operations:
            self.first_line = line
        self.last_line = line
        self.operations.append(operation)
        self._size_bytes += len(operation.payload) + len(operation.key)
        if self._size_bytes >= limits.BULK_CHUNK_SIZE_BYTES_MAX or operation.op == "delete":
            self.full = True
        self._answer(line, None)

    def refuse(self, line: int, problem: Problem) -> None:
        self._answer(line, problem)

    def _answer(self, line: int, problem: Problem | None) -> None:
        self._answers.append((line, problem))
        if len(self._answers) >= limits.BULK_CHUNK_LINES_MAX:
            self.full = True

    def acknowledge(self, outcome: Committed) -> tuple[bytes, int, int]:
        """(NDJSON, lines accepted, lines refused) for a chunk that was committed as `outcome`."""
        parts: list[bytes] = []
        index = 0
        seq = outcome.seq
        duplicates = outcome.duplicates
        for line, problem in self._answers:
            if problem is not None:
                parts.append(_refused_line(line, problem))
                continue
            if index < duplicates:
                parts.append(b'{"line":%d,"duplicate":true}\n' % line)
            else:
                operation = self.operations[index]
                parts.append(
                    b'{"line":%d,"table":"%b","key":%b,"version":%d,"seq":%d}\n'
                    % (
                        line,
                        operation.table.encode(),
                        _encode_text(operation.key),
                        outcome.versions[index - duplicates],
                        seq,
                    )
                )
            index += 1
        return b"".join(parts), index, len(self._answers) - index

    def refuse_all(self, problem: Problem | None) -> tuple[bytes, int, int]:
        """As `acknowledge`, for a chunk of which nothing was written."""
        parts = [_refused_line(line, own or problem) for line, own in self._answers if own or problem]
        return b"".join(parts), 0, len(parts)


def _refused_line(line: int, problem: Problem | None) -> bytes:
    return b"" if problem is None else b'{"line":%d,"error":%b}\n' % (line, problem.encoded())
