"""Is another node's store sound, and does it agree with what this node has signed?"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from storage import keys, rows
from storage.engine import Engine
from storage.errors import FormatUnknown, InvariantBroken
from storage.ledger_state import LedgerState, load_ledgers
from storage.store import STORE_FORMAT, Store

_NOTES_A_BATCH = 1_000


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
        for state in load_ledgers(engine).values():
            _check_newest_note(engine, state, state)
    finally:
        engine.close()


def carry_notes(store: Store, received: Engine) -> None:
    """Copies the checkpoints that this node has signed into `received`, because each of them is kept.

    The newest of each ledger must be one of the received journal's tree: otherwise this node has signed
    another history. Raises InvariantBroken and StorageFailed.
    """
    ledgers = load_ledgers(received)
    for name, own in store.machine.ledgers.items():
        state = ledgers.get(name)
        if state is None or state.row.id != own.row.id:
            continue  # Dropped, or created anew, in what this node has not seen.
        _check_newest_note(store.engine, own, state)
        _copy(store.engine, received, own.number)


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


def _copy(source: Engine, received: Engine, number: int) -> None:
    prefix = keys.of_ledger(b"K", number)
    for rows_of_batch in _batches(source.scan(prefix, keys.end_of(prefix))):
        batch = received.batch()
        for key, note in rows_of_batch:
            batch.put(key, note)
        received.write(batch)


def _batches(found: Iterator[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    gathered: list[tuple[bytes, bytes]] = []
    for row in found:
        gathered.append(row)
        if len(gathered) == _NOTES_A_BATCH:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
