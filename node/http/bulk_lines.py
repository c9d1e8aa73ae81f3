"""From lines of a bulk load to operations, and from a committed chunk to its acknowledgements. Pure.

Lines are read together when all of them put plain documents under keys, as most loads do: a step at a time
for all of them, by C code, in half the time. Everything else is read line by line, which alone says what is
wrong with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat, starmap
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from node import limits
from node.http.bodies import document_problem
from node.http.problems import Problem
from stele.format.canonical import PlainObject, may_be_plain, parse, plain_values, settle
from stele.format.errors import CanonicalError, InvalidName
from stele.format.names import check_document_key, check_document_keys
from storage.commands import Operation
from storage.outcomes import Committed

_MEMBERS = frozenset(("op", "table", "key", "data"))
_PAYLOAD_START = len(b'{"data":')
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class TooLong:
    """Stands for a line longer than the limit; its bytes were dropped."""


class LineCutter:
    """Cuts what comes of a stream, in pieces of any size, into texts of whole lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def cut(self, piece: bytes) -> Iterator[bytes | TooLong]:
        """The lines that this piece completes, empty ones too, with line feeds between them."""
        end = piece.rfind(b"\n")
        if end < 0:
            if len(self._rest) + len(piece) > limits.BULK_LINE_SIZE_BYTES_MAX:
                self._skipping = True
            self._rest = b"" if self._skipping else self._rest + piece
            return
        start = 0
        if self._skipping:
            yield TooLong()
            self._skipping = False
            start = piece.find(b"\n") + 1
        if start <= end:
            yield b"".join((self._rest, memoryview(piece)[start:end]))
        self._rest = piece[end + 1 :]

    def end(self) -> Iterator[bytes | TooLong]:
        """The last line, if it lacks its line feed."""
        if self._skipping:
            yield TooLong()
        elif self._rest:
            yield self._rest


class _PlainPut(msgspec.Struct, forbid_unknown_fields=True):
    data: PlainObject
    key: str
    table: str | UnsetType = UNSET


class _Put(msgspec.Struct, forbid_unknown_fields=True):
    data: dict[str, object]
    key: str
    table: str | UnsetType = UNSET


_decode_plain_puts = msgspec.json.Decoder(_PlainPut).decode_lines
_decode_puts = msgspec.json.Decoder(_Put).decode_lines


class LineReader:
    """Reads the lines of one stream.

    `check_table(name)` raises Problem for a table that cannot be written; `new_key()` makes a key for a
    line without one; `new_salts(count)` gives so many times 32 random bytes.
    """

    def __init__(
        self,
        default_table: str,
        check_table: Callable[[str], None],
        new_key: Callable[[], str],
        new_salts: Callable[[int], list[bytes]],
    ) -> None:
        self._default_table = default_table
        self._check_table = check_table
        self._new_key = new_key
        self._new_salts = new_salts

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
        payload = b"" if op == "delete" else _payload(value, canonical)
        return Operation(op, table, key, payload, *self._new_salts(1))

    def read_together(self, text: bytes) -> list[Operation] | None:
        """What `read` gives for each of the lines that stand here, with line feeds between them; None when
        they are to be read one by one."""
        read = _puts(text)
        if read is None:
            return None
        puts, payloads = read
        keys = [put.key for put in puts]
        tables = [self._default_table if put.table is UNSET else put.table for put in puts]
        try:
            check_document_keys(keys)
            for table in dict.fromkeys(tables):
                self._check_table(table)
        except (Problem, InvalidName):
            return None
        each = zip(tables, keys, payloads, self._new_salts(len(puts)), strict=True)
        return [Operation("put", table, key, payload, salt) for table, key, payload, salt in each]

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


def _puts(text: bytes) -> tuple[Sequence[_PlainPut | _Put], list[bytes]] | None:
    """Members of each line, and canonical `data`, if all lines are plain puts; or None."""
    # msgspec takes any space between two values, and none. Each line here begins with a brace and ends with
    # one; no value can go on from one to the next, as inside a value no brace follows a closing one; so each
    # line has one value at least, and one exactly if there are as many as lines.
    if text[:1] != b"{" or text[-1:] != b"}" or len(text) > limits.BULK_LINE_SIZE_BYTES_MAX:
        return None
    ends = text.count(b"\n")
    if text.count(b"}\n{") != ends:
        return None
    puts = _decoded(text)
    if puts is None or len(puts) != ends + 1:
        return None
    # A name is followed by a colon, and so may be what stands in a string.
    strings = [put.key for put in puts] + [put.table for put in puts if put.table is not UNSET]
    colons = len(puts) + len(strings) + "".join(strings).count(":")
    payloads = plain_values(text, [put.data for put in puts], colons)
    if payloads is None or max(map(len, payloads)) > limits.DOCUMENT_SIZE_BYTES_MAX:
        return None
    return puts, payloads


def _decoded(text: bytes) -> Sequence[_PlainPut | _Put] | None:
    try:
        if may_be_plain(text):
            return _decode_plain_puts(text)
        puts = _decode_puts(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return puts if all(settle(put.data, 2) for put in puts) else None


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
    payload = canonical[_PAYLOAD_START:end]
    if len(payload) > limits.DOCUMENT_SIZE_BYTES_MAX:
        raise Problem(
            "body-too-large",
            f"a document may have at most {limits.DOCUMENT_SIZE_BYTES_MAX} bytes",
            field="data",
            limit=limits.DOCUMENT_SIZE_BYTES_MAX,
        )
    return payload


class _Accepted(msgspec.Struct):
    line: int
    table: str
    key: str
    version: int
    seq: int


class _Duplicate(msgspec.Struct):
    line: int
    duplicate: bool = True


class _Refused(msgspec.Struct):
    line: int
    error: msgspec.Raw


_Answer = _Accepted | _Duplicate | _Refused
_encode_answers = msgspec.json.Encoder().encode_lines


_op_of, _key_of, _payload_of = attrgetter("op"), attrgetter("key"), attrgetter("payload")
_line_of = attrgetter("line")


class Chunk:
    """Lines that go into one transaction, and those between them that were refused."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.full = False
        """Whether it is to go: there is enough in it, or a delete, which goes alone because one of nothing
        refuses its whole transaction."""
        self._size_bytes = 0
        self._lines: list[int] = []
        self._refused: list[tuple[int, Problem]] = []

    @property
    def lines(self) -> int:
        return len(self._lines) + len(self._refused)

    @property
    def first_line(self) -> int:
        """Number of the first operation's line, of which there must be one."""
        return self._lines[0]

    @property
    def last_line(self) -> int:
        """Number of the last operation's line, of which there must be one."""
        return self._lines[-1]

    def take(self, line: int, operations: Sequence[Operation]) -> int:
        """Adds these, of this line and those after it, up to the first one with which the chunk is full.

        Returns how many: one at least, if it is not full.
        """
        room = limits.BULK_CHUNK_LINES_MAX - self.lines
        taken = operations[:room]
        self.full = len(taken) == room
        size_bytes = self._size_bytes + sum(map(len, chain(map(_payload_of, taken), map(_key_of, taken))))
        if size_bytes >= limits.BULK_CHUNK_SIZE_BYTES_MAX or "delete" in map(_op_of, taken):
            taken = self._until_full(taken)
            self.full = True
        self._size_bytes = size_bytes
        self.operations += taken
        self._lines += range(line, line + len(taken))
        return len(taken)

    def _until_full(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """These, up to the first one with which there is enough, or which is a delete."""
        size_bytes = self._size_bytes
        for count, operation in enumerate(operations, 1):
            size_bytes += len(operation.payload) + len(operation.key)
            if size_bytes >= limits.BULK_CHUNK_SIZE_BYTES_MAX or operation.op == "delete":
                return operations[:count]
        return operations

    def refuse(self, line: int, problem: Problem) -> None:
        self._refused.append((line, problem))
        self.full = self.full or self.lines >= limits.BULK_CHUNK_LINES_MAX

    def acknowledge(self, outcome: Committed) -> tuple[bytes, int, int]:
        """(NDJSON, lines accepted, lines refused) for a chunk that was committed as `outcome`."""
        before = outcome.duplicates
        answers: list[_Answer] = [*map(_Duplicate, self._lines[:before])]
        committed = zip(self._lines[before:], self.operations[before:], outcome.versions, strict=True)
        answers += [
            _Accepted(line, put.table, put.key, version, outcome.seq) for line, put, version in committed
        ]
        if self._refused:
            answers += starmap(_refused, self._refused)
            answers.sort(key=_line_of)
        return _encode_answers(answers), len(self._lines), len(self._refused)

    def refuse_all(self, problem: Problem | None) -> tuple[bytes, int, int]:
        """As `acknowledge`, for a chunk of which nothing was written. Its operations are refused with
        `problem`; None when it has none."""
        answers = [*starmap(_refused, self._refused)]
        if problem is not None:
            answers += map(_refused, self._lines, repeat(problem))
            answers.sort(key=_line_of)
        return _encode_answers(answers), 0, len(answers)


def _refused(line: int, problem: Problem) -> _Refused:
    return _Refused(line, msgspec.Raw(problem.encoded()))
