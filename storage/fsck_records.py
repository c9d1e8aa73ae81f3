"""fsck, third pass: the small rows beside the journal: first answers, refusals, table use, checkpoints."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from storage import keys, rows
from storage.engine import Engine
from storage.errors import InvariantBroken
from storage.findings import FsckReport
from storage.fsck_journal import CheckedJournal
from storage.ledger_state import idempotency_key_of, stored_block
from storage.outcomes import Committed


def check_records(
    engine: Engine, report: FsckReport, name: str, number: int, journal: CheckedJournal
) -> None:
    """Checks the rows that the journal does not contain but determines."""
    _check_use(engine, report, name, number, journal)
    _check_first_answers(engine, report, name, number)
    _check_transactions(engine, report, name, number, journal)
    _check_ring(engine, report, name, number)
    _check_decodes(engine, report, name, number, b"F", "refusal", rows.decode_refusal)
    _check_checkpoints(engine, report, name, number, journal)
    _check_cosignatures(engine, report, name, number)
    _check_erasures(engine, report, name, number, journal)


def _check_use(engine: Engine, report: FsckReport, name: str, number: int, journal: CheckedJournal) -> None:
    for table, seq in journal.newest_use.items():
        where = f"ledger {name!r} newest use of table {table}"
        report.compare(where, engine.get(keys.table_use(number, table)), rows.U64.pack(seq))


def _check_first_answers(engine: Engine, report: FsckReport, name: str, number: int) -> None:
    prefix = keys.of_ledger(b"I", number)
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        where = f"ledger {name!r} first answer {key[len(prefix) :].hex()}"
        try:
            answer = rows.decode_first_answer(value)
        except msgspec.MsgspecError as error:
            report.add(where, f"the row is unreadable: {error}")
            continue
        report.compare(where, value, rows.encode(answer))
        if isinstance(answer.outcome, Committed):
            _check_first_block(engine, report, number, where, key[len(prefix) :], answer.outcome)


def _check_first_block(
    engine: Engine, report: FsckReport, number: int, where: str, key_hash: bytes, outcome: Committed
) -> None:
    try:
        information = stored_block(engine, number, outcome.seq).information
        idempotency_key = idempotency_key_of(information) or ""
    except (InvariantBroken, msgspec.MsgspecError, UnicodeDecodeError) as error:
        report.add(where, f"it names block {outcome.seq}, which is unreadable: {error}")
        return
    if hashlib.sha256(idempotency_key.encode()).digest() != key_hash:
        report.add(where, f"it names block {outcome.seq}, which was made under another idempotency key")


def _check_transactions(
    engine: Engine, report: FsckReport, name: str, number: int, journal: CheckedJournal
) -> None:
    prefix = keys.of_ledger(b"X", number)
    count = sum(1 for _ in engine.scan(prefix, keys.end_of(prefix)))
    if count != journal.transactions:
        report.add(
            f"ledger {name!r} transaction rows",
            f"{count} are stored, but the journal has {journal.transactions} transactions",
        )


def _check_ring(engine: Engine, report: FsckReport, name: str, number: int) -> None:
    """The ring holds exactly the refusals that the end of the journal counts."""
    where = f"ledger {name!r} refusal ring"
    _check_decodes(engine, report, name, number, b"R", "refusal ring", rows.decode_refusal_place)
    try:
        end = rows.decode_journal_end(engine.get(keys.journal_end(number)) or b"")
    except msgspec.MsgspecError:
        # The walk over the journal has said already that its end is unreadable.
        return
    prefix = keys.of_ledger(b"R", number)
    stored = [
        int.from_bytes(key[len(prefix) :], "big") for key, _ in engine.scan(prefix, keys.end_of(prefix))
    ]
    first, last = (stored[0], stored[-1] + 1) if stored else (end.refusals_to, end.refusals_to)
    if (first, last) != (end.refusals_from, end.refusals_to) or last - first != len(stored):
        report.add(
            where,
            f"it holds {len(stored)} refusals from {first} to {last}, but the journal's end counts them"
            f" from {end.refusals_from} to {end.refusals_to}",
        )


def _check_decodes(
    engine: Engine,
    report: FsckReport,
    name: str,
    number: int,
    kind: bytes,
    what: str,
    decode: Callable[[bytes], Any],
) -> None:
    prefix = keys.of_ledger(kind, number)
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        try:
            decode(value)
        except msgspec.MsgspecError as error:
            report.add(f"ledger {name!r} {what} {key[len(prefix) :].hex()}", f"unreadable: {error}")


def _check_checkpoints(
    engine: Engine, report: FsckReport, name: str, number: int, journal: CheckedJournal
) -> None:
    """A kept checkpoint must state the size it is kept under and the root recomputed for it."""
    prefix = keys.of_ledger(b"K", number)
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        size = int.from_bytes(key[len(prefix) :], "big")
        where = f"ledger {name!r} checkpoint of size {size}"
        if not 0 < size <= journal.tree.size:
            report.add(where, f"the journal has only {journal.tree.size} blocks")
            continue
        lines = value.split(b"\n")
        expected = [str(size).encode(), base64.b64encode(journal.tree.root(size))]
        if lines[1:3] != expected:
            report.add(where, "its size or root is not the one recomputed from the journal")


def _check_cosignatures(engine: Engine, report: FsckReport, name: str, number: int) -> None:
    """A cosignature stands on a checkpoint that is kept, as a line of the cosigner that its key names."""
    prefix = keys.of_ledger(b"Q", number)
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        size = keys.size_of(key)
        where = f"ledger {name!r} cosignature of size {size}"
        if engine.get(keys.checkpoint(number, size)) is None:
            report.add(where, "there is no checkpoint of that size")
        try:
            key_id, cosigner = keys.cosigner_of(key)
            encoded = value.decode().removeprefix(f"\u2014 {cosigner} ").removesuffix("\n")
            fits = base64.b64decode(encoded, validate=True)[: len(key_id)] == key_id
        except ValueError:
            fits = False
        if not fits:
            report.add(where, "it is no signature line of the key that its row names")


def _check_erasures(
    engine: Engine, report: FsckReport, name: str, number: int, journal: CheckedJournal
) -> None:
    """A row for every erasure block, which says what to clear; how far this node is with it is its own."""
    prefix = keys.of_ledger(b"E", number)
    stored: dict[int, tuple[int, str]] = {}
    for key, value in engine.scan(prefix, keys.end_of(prefix)):
        seq = int.from_bytes(key[len(prefix) :], "big")
        try:
            row = rows.decode_erasure(value)
        except msgspec.MsgspecError as error:
            report.add(f"ledger {name!r} erasure {seq}", f"the row is unreadable: {error}")
            continue
        stored[seq] = row.table, row.key
    for seq in sorted(stored.keys() | journal.erasures.keys()):
        if stored.get(seq) != journal.erasures.get(seq):
            report.add(
                f"ledger {name!r} erasure {seq}",
                f"its row names {stored.get(seq)}, but the journal {journal.erasures.get(seq)}",
            )
