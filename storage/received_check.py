"""Is another node's store sound, and does it agree with what this node has signed?"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

import msgspec

from storage import keys, rows
from storage.engine import Engine
from storage.errors import FormatUnknown, InvariantBroken
from storage.ledger_state import LedgerState
from storage.recovery import load_ledgers
from storage.state_buckets import WriteBack
from storage.store import STORE_FORMAT, Store

_OWN_KINDS = (b"K", b"Q", b"V")
"""Checkpoints, cosignatures and contradictions (storage/checkpoints.py)."""

_ROWS_A_BATCH = 1_000


def check_received(path: Path, applied_index: int) -> None:
    """Checks the closed database in `path`.

    It must be a store as of `applied_index`; each ledger's journal must end as its tree does, which loading
    it checks, and its newest signed checkpoint must be one of that tree.

    `steled fsck` recomputes everything; this is what can be done while a cluster waits. Raises FormatUnknown,
    StorageFailed and InvariantBroken.
    """
    engine = Engine(path, read_only=True)
    try:
        if engine.get(keys.FORMAT) != STORE_FORMAT:
            raise FormatUnknown(f"the snapshot's format is {engine.get(keys.FORMAT)!r}")
        stored = engine.get(keys.APPLIED_INDEX)
        if stored is None or rows.U64.unpack(stored)[0] != applied_index:
            raise InvariantBroken(f"the snapshot is not of entry {applied_index}")
        for state in load_ledgers(engine, WriteBack()).values():
            _check_newest_note(engine, state, state)
    finally:
        engine.close()


def carry_own_rows(store: Store, received: Engine) -> None:
    """Makes `received` remember what this node signs with and has signed, instead of its sender's keys.

    Every checkpoint, cosignature and contradiction that this node has kept is copied, because each is kept
    for ever. The newest checkpoint of each ledger must be one of the received journal's tree: otherwise this
    node has signed another history. Raises InvariantBroken and StorageFailed.
    """
    _copy_cosigner(store.engine, received)
    ledgers = load_ledgers(received, WriteBack())
    for name, own in store.machine.ledgers.items():
        state = ledgers.get(name)
        if state is None or state.row.id != own.row.id:
            continue  # Dropped, or created anew, in what this node has not seen.
        _check_newest_note(store.engine, own, state)
        for kind in _OWN_KINDS:
            _copy(store.engine, received, keys.of_ledger(kind, own.number))
    for state in ledgers.values():
        _carry_erasures(store.engine, received, state)


def _check_newest_note(source: Engine, signed: LedgerState, journal: LedgerState) -> None:
    prefix = keys.of_ledger(b"K", signed.number)
    row = source.last(prefix, keys.end_of(prefix))
    if row is None:
        return
    size = int.from_bytes(row[0][len(prefix) :], "big")
    lines = row[1].decode(errors="replace").split("\n")
    try:
        root = base64.b64decode(lines[2], validate=True)
        right = int(lines[1]) == size
    except (IndexError, ValueError, binascii.Error):
        right, root = False, b""
    if not right or not 0 < size <= journal.size or journal.tree.root(size) != root:
        raise InvariantBroken(
            f"ledger {signed.name!r}: the signed checkpoint of size {size} is not one of the received "
            f"journal, which has {journal.size} blocks"
        )


def _copy_cosigner(source: Engine, received: Engine) -> None:
    batch = received.batch()
    cosigner = source.get(keys.COSIGNER)
    if cosigner is None:
        batch.delete(keys.COSIGNER)
    else:
        batch.put(keys.COSIGNER, cosigner)
    received.write(batch)


def _carry_erasures(own: Engine, received: Engine, state: LedgerState) -> None:
    """What an erasure took may lie in the sender's files until the sender was done with it, so this node is
    done only with what both were; with the rest it begins anew (docs/adr/0012)."""
    prefix = keys.of_ledger(b"E", state.number)
    for found in _batches(received.scan(prefix, keys.end_of(prefix))):
        batch = received.batch()
        for key, value in found:
            row = rows.decode_erasure(value)
            before = own.get(key)
            done = row.completed_at and before is not None and rows.decode_erasure(before).completed_at
            batch.put(key, rows.encode(msgspec.structs.replace(row, completed_at=done or 0)))
        received.write(batch)


def _copy(source: Engine, received: Engine, prefix: bytes) -> None:
    for rows_of_batch in _batches(source.scan(prefix, keys.end_of(prefix))):
        batch = received.batch()
        for key, value in rows_of_batch:
            batch.put(key, value)
        received.write(batch)


def _batches(found: Iterator[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    gathered: list[tuple[bytes, bytes]] = []
    for row in found:
        gathered.append(row)
        if len(gathered) == _ROWS_A_BATCH:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
