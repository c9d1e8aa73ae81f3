"""Alters a byte of a stopped node's store on purpose, for tamper drills: what whoever has the disk could do.

The database itself is content with what is written here (its own checksums are right), except for the byte of
a table file. Only `steled demo` calls this.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stele.format.limits import HASH_SIZE_BYTES
from stele.format.state_map import BUCKET_HEAD_SIZE_BYTES, ROW_SIZE_BYTES, key_hash
from storage import directory, keys
from storage.engine import Batch
from storage.errors import StorageError
from storage.journal import Journal
from storage.ledger_state import LedgerState, TableState
from storage.rows import REVISION_HEAD_SIZE_BYTES, Current, decode_current
from storage.state_tree import first_of
from storage.store import Store


class NothingToAlter(StorageError):
    """The store has no such row, or the row no such byte."""


class Target(NamedTuple):
    """What to alter: one of `KINDS` that belongs to a document. `byte` is the offset in it; None chooses one
    that shows."""

    kind: str
    ledger: str
    table: str
    key: str
    byte: int | None = None


class Altered(NamedTuple):
    """What was altered: `where` for people, `row` in hex or the name of the file, and the byte."""

    kind: str
    where: str
    row: str
    byte: int
    size_bytes: int
    before: int
    after: int


class _Place(NamedTuple):
    where: str
    key: bytes
    byte: int
    """The one that shows best."""


def alter(data_dir: Path, target: Target) -> Altered:
    """Flips the lowest bit of one byte. Raises NothingToAlter, StoreInUse while a node runs there, and
    StorageError when what is there is damaged already."""
    store = Store.open(data_dir)
    try:
        if target.kind != FILE:
            return _alter_row(store, target)
    finally:
        store.close()
        del store
        gc.collect()  # RocksDB lets go of a database only once nothing refers to it any more.
    return _alter_file(data_dir / directory.STORE, target)


def _alter_row(store: Store, target: Target) -> Altered:
    state = store.machine.ledgers.get(target.ledger)
    table = None if state is None else state.tables.get(target.table)
    if state is None or table is None:
        raise NothingToAlter(f"there is no table {target.table!r} in a ledger {target.ledger!r}")
    stored = store.engine.get(table.current_prefix + target.key.encode())
    if stored is None:
        raise NothingToAlter(f"there is no document {target.key!r}")
    store.machine.write_back()  # Of a node that was killed, buckets may be in memory alone.
    find = _PLACES.get(target.kind)
    if find is None:
        raise NothingToAlter(f"{target.kind!r} is none of {', '.join(KINDS)}")
    place = find(store, state, table, target.key, decode_current(stored))
    value = store.engine.get(place.key) or b""
    byte = place.byte if target.byte is None else target.byte
    changed = _flipped(value, byte)
    batch = Batch()
    batch.put(place.key, changed)
    store.engine.write(batch, sync=True)
    return Altered(target.kind, place.where, place.key.hex(), byte, len(value), value[byte], changed[byte])


def _flipped(value: bytes, byte: int) -> bytes:
    if not 0 <= byte < len(value):
        raise NothingToAlter(f"it has {len(value)} bytes, and no byte {byte}")
    changed = bytearray(value)
    changed[byte] ^= 1
    return bytes(changed)


def _block(store: Store, state: LedgerState, _: TableState, key: str, current: Current) -> _Place:
    """The second at which it was committed, in the header."""
    row = keys.block(state.number, current.seq)
    header = Journal(store.engine, state).header(current.seq)
    at = (
        (store.engine.get(row) or b"").index(header)
        + header.index(b'"at":"')
        + len('"at":"2026-11-28T07:54:3')
    )
    return _Place(f"block {current.seq} of ledger {state.name!r}: its time", row, at)


def _revision(store: Store, _: LedgerState, table: TableState, key: str, current: Current) -> _Place:
    """A character of the content, which stays JSON."""
    row = (
        table.revisions_prefix + key.encode() + b"\0" + keys.revision_suffix(current.seq, current.leaf_index)
    )
    value = store.engine.get(row) or b""
    shows = [
        byte
        for byte in range(REVISION_HEAD_SIZE_BYTES, len(value))
        if chr(value[byte]).isalnum() and chr(value[byte] ^ 1).isalnum()
    ]
    return _Place(
        f"version {current.version} of document {key!r}: its content", row, shows[-1] if shows else 0
    )


def _current(_: Store, __: LedgerState, table: TableState, key: str, current: Current) -> _Place:
    row = table.current_prefix + key.encode()
    return _Place(f"the current row of document {key!r}: its version, {current.version}", row, 7)


def _bucket(store: Store, state: LedgerState, table: TableState, key: str, _: Current) -> _Place:
    hashed = key_hash(state.row.id, table.id, key)
    number = first_of(state.map.tree.bucket_of(hashed))
    row = keys.state_bucket(state.number, number)
    starts = range(BUCKET_HEAD_SIZE_BYTES, len(store.engine.get(row) or b""), ROW_SIZE_BYTES)
    own = next((at for at in starts if (store.engine.get(row) or b"").startswith(hashed, at)), None)
    if own is None:
        raise NothingToAlter(f"document {key!r} is not sealed yet")
    version_at = own + HASH_SIZE_BYTES + 7
    return _Place(f"bucket {number} of the state map: the version of document {key!r}", row, version_at)


def _tile(store: Store, state: LedgerState, _: TableState, __: str, ___: Current) -> _Place:
    row = keys.tile(state.number, 0, 0)
    if store.engine.get(row) is None:
        raise NothingToAlter(f"ledger {state.name!r} has too few blocks for a tile")
    return _Place(f"the first tile of the tree of ledger {state.name!r}: a hash", row, 0)


def _checkpoint(store: Store, state: LedgerState, _: TableState, __: str, ___: Current) -> _Place:
    """A character of the root."""
    prefix = keys.of_ledger(b"K", state.number)
    row = store.engine.last(prefix, keys.end_of(prefix))
    if row is None:
        raise NothingToAlter(f"ledger {state.name!r} has no checkpoint yet")
    root_at = row[1].index(b"\n", row[1].index(b"\n") + 1) + 1
    size = keys.size_of(row[0])
    return _Place(f"the checkpoint of {size} blocks of ledger {state.name!r}: its root", row[0], root_at)


_Finds = Callable[[Store, LedgerState, TableState, str, Current], _Place]

_PLACES: dict[str, _Finds] = {
    "revision": _revision,
    "block": _block,
    "current": _current,
    "bucket": _bucket,
    "tile": _tile,
    "checkpoint": _checkpoint,
}

_SHOWN_SIZE_BYTES = 8

FILE = "file"
KINDS = (*_PLACES, FILE)
"""Rows that belong to a document, and a byte of the file in which the database keeps its content."""


def _alter_file(path: Path, target: Target) -> Altered:
    """The file whose text shows the end of the document's key: what does not repeat, compression leaves as it
    is."""
    shown = target.key.encode()[-_SHOWN_SIZE_BYTES:]
    for file in sorted(path.glob("*.sst")):
        content = file.read_bytes()
        found = content.find(shown)
        if found < 0:
            continue
        byte = found if target.byte is None else target.byte
        changed = _flipped(content, byte)
        with file.open("r+b") as opened:
            opened.seek(byte)
            opened.write(changed[byte : byte + 1])
        where = f"table file {file.name}, near document {target.key!r}"
        return Altered(FILE, where, file.name, byte, len(content), content[byte], changed[byte])
    raise NothingToAlter(f"no table file shows document {target.key!r}")
