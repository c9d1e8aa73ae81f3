"""What a Raft entry carries: a group of commands, as MessagePack with strict types.

A command says everything that `apply` needs and may not find out by itself: the time, the
transaction id and the salts are stamped by the leader (DESIGN.md section 3), because `apply` must
give the same bytes on every replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Operation(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One revision to make: `payload` is the canonical document, empty for a delete."""

    op: Literal["put", "delete"]
    table: str
    key: str
    payload: bytes
    salt: bytes


class Condition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a transaction relies on.

    With `key`: the document's version is `version` (kind "version"), there is no live document
    (kind "absent"), or it was not changed since the transaction's `read_seq` (kind "unchanged").
    With `prefix`, or with neither: no key of that range, or of the table, changed since `read_seq`.
    """

    table: str
    key: str | None
    prefix: str | None
    version: int | None
    kind: Literal["version", "absent", "unchanged"]


class CreateLedger(msgspec.Struct, array_like=True, frozen=True, tag="create-ledger"):
    ledger: str
    id: bytes
    tx: bytes
    at: int
    by: str
    deletion_protection: bool


class SetLedger(msgspec.Struct, array_like=True, frozen=True, tag="set-ledger"):
    ledger: str
    deletion_protection: bool


class DropLedger(msgspec.Struct, array_like=True, frozen=True, tag="drop-ledger"):
    ledger: str


class CreateTable(msgspec.Struct, array_like=True, frozen=True, tag="create-table"):
    ledger: str
    table: str
    tx: bytes
    at: int
    by: str
    salt: bytes


class DropTable(msgspec.Struct, array_like=True, frozen=True, tag="drop-table"):
    ledger: str
    table: str
    tx: bytes
    at: int
    by: str
    salt: bytes


class Transact(msgspec.Struct, array_like=True, frozen=True, tag="transact"):
    """An atomic transaction: every operation in one block, or a refusal and no block.

    `request_digest` is the SHA-256 of the request; an idempotency key that comes back with another
    digest is refused. `bulk_line` is the number of the first operation's line in a bulk stream: with
    an idempotency key it makes the whole stream resumable, because lines at or below the highest
    committed one are skipped.
    """

    ledger: str
    tx: bytes
    at: int
    by: str
    operations: tuple[Operation, ...]
    conditions: tuple[Condition, ...] = ()
    read_seq: int | None = None
    idempotency_key: str | None = None
    request_digest: bytes = b""
    bulk_line: int | None = None


class Erase(msgspec.Struct, array_like=True, frozen=True, tag="erase"):
    """Removes payload and salt of revisions of one document; `versions` None: of all that it has.

    `table` is a table's name, or an id `name@number`, which also reaches a table whose name another one
    has now.
    """

    ledger: str
    table: str
    key: str
    versions: tuple[int, ...] | None
    reason: str
    tx: bytes
    at: int
    by: str
    idempotency_key: str | None = None
    request_digest: bytes = b""


class Seal(msgspec.Struct, array_like=True, frozen=True, tag="seal"):
    """Commit to the state map. `id` is the ledger's, so that one created anew under the same name is not
    taken for it. `previous_size` and `previous_root` are the journal's size and Merkle root right after
    the last seal that the proposer has applied (0 and 32 zero bytes when there is none): a replica that
    has something else there stops."""

    ledger: str
    id: bytes
    tx: bytes
    at: int
    by: str
    previous_size: int
    previous_root: bytes


Command = CreateLedger | SetLedger | DropLedger | CreateTable | DropTable | Transact | Erase | Seal

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Command])


def encode_group(commands: Sequence[Command]) -> bytes:
    """The payload of one Raft entry."""
    return _encoder.encode(list(commands))


def encode_command(command: Command) -> bytes:
    """One command alone; `join_group` makes a payload of several without encoding them again."""
    return _encoder.encode(command)


def join_group(encoded: Sequence[bytes]) -> bytes:
    """A payload from commands that `encode_command` made (a MessagePack array32 of them)."""
    return b"\xdd" + len(encoded).to_bytes(4, "big") + b"".join(encoded)


def decode_group(payload: bytes) -> list[Command]:
    """Raises `msgspec.ValidationError` or `msgspec.DecodeError` on anything that is not a group."""
    return _decoder.decode(payload)
