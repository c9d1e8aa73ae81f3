"""Applying an erasure: payload and salt of revisions go, everything that proves them stays.

The revision's leaf keeps its commitment SHA-256(salt ‖ payload); without the salt nobody can confirm a
guess (docs/adr/0012). What is left in files and in the Raft log is the node's work (node/erasing.py).
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from stele.format.block import header_bytes
from stele.format.erasure import Erasure, erasure_information_bytes, version_ranges
from stele.format.merkle import EMPTY_ROOT
from storage import keys, limits, rows
from storage.commands import Erase
from storage.ledger_state import CATALOGUE_NUMBER, LedgerState
from storage.outcomes import Committed, Refused
from storage.transact import extend_journal, key_reused
from storage.transition import Transition

_TABLE_ID = re.compile("([A-Za-z][A-Za-z0-9_-]{0,62})@(0|[1-9][0-9]{0,15})")


def erase(state: LedgerState, transition: Transition, command: Erase, index: int) -> Committed | Refused:
    """Commits an erasure as the ledger's next block, or refuses it. `index` is the Raft entry it came in."""
    key = command.idempotency_key
    key_hash = b"" if key is None else hashlib.sha256(key.encode()).digest()
    answer = None if key is None else transition.first_answer(state, key_hash)
    if answer is not None:
        first = answer.outcome
        reused = key_reused(answer, command.request_digest)
        if reused is not None or isinstance(first, Refused):
            return reused or first
        return msgspec.structs.replace(first, repeated=True)
    chosen = _chosen(state, transition, command)
    if isinstance(chosen, Refused):
        transition.record_refusal(state, command.tx, chosen, key_hash, command.request_digest)
        return chosen
    outcome = _commit(state, transition, command, index, *chosen)
    transition.record_commit(state, outcome, key_hash, command.request_digest, None)
    return outcome


def _commit(
    state: LedgerState,
    transition: Transition,
    command: Erase,
    index: int,
    table: str,
    number: int,
    chosen: list[tuple[bytes, bytes]],
) -> Committed:
    seq = state.size
    at = max(command.at, state.last_at)
    versions = sorted(rows.decode_revision(row).version for _, row in chosen)
    erasure = Erasure(command.key, command.reason, table, version_ranges(versions))
    information = erasure_information_bytes(command.by, erasure, command.idempotency_key)
    header = header_bytes(
        ledger=state.row.id,
        seq=seq,
        prev=state.head,
        at_us=at,
        tx=command.tx,
        information_hash=hashlib.sha256(information).digest(),
        revision_count=0,
        revision_root=EMPTY_ROOT,
        kind="erasure",
    )
    extend_journal(state, transition, header, information, (), at)
    for row_key, row in chosen:
        transition.set_revision(row_key, rows.erased_revision(row, seq))
        place = row_key[-keys.REVISION_SUFFIX_SIZE_BYTES :]
        transition.forget_request(state, keys.place_of(place)[0])
    pending = rows.ErasureRow(index, number, command.key)
    transition.put(keys.erasure(state.number, seq), rows.encode(pending))
    state.erasures[seq] = pending
    return Committed(seq, at, command.tx, tuple(versions))


def _chosen(
    state: LedgerState, transition: Transition, command: Erase
) -> tuple[str, int, list[tuple[bytes, bytes]]] | Refused:
    """The table's id and number, and the rows to erase; or why not."""
    table = _table(state, transition, command.table)
    if table is None:
        return Refused("table-unknown", f"there is no table {command.table!r}")
    table_id, number = table
    stem = keys.revisions_of_table(state.number, number) + command.key.encode() + b"\0"
    wanted = None if command.versions is None else frozenset(command.versions)
    oldest = 0 if not wanted else min(wanted)
    chosen: list[tuple[bytes, bytes]] = []
    known = erased = looked_at = 0
    for row_key, row in transition.revisions(stem):
        revision = rows.decode_revision(row)
        too_many = looked_at > limits.ERASURE_WALK_ROWS_MAX or len(chosen) > limits.ERASURE_REVISIONS_MAX
        if revision.version < oldest or too_many:
            break
        looked_at += 1
        if wanted is None or revision.version in wanted:
            known += 1
            if revision.erased_by is None:
                chosen.append((row_key, row))
            else:
                erased = revision.erased_by
    if looked_at > limits.ERASURE_WALK_ROWS_MAX or len(chosen) > limits.ERASURE_REVISIONS_MAX:
        detail = (
            f"document {command.key!r} has more revisions than one erasure takes: it erases at most "
            f"{limits.ERASURE_REVISIONS_MAX}, of the newest {limits.ERASURE_WALK_ROWS_MAX}"
        )
        return Refused("erasure-too-large", detail)
    what = f"document {command.key!r} in table {command.table!r}"
    if known < (1 if wanted is None else len(wanted)):
        return Refused("revision-unknown", f"there is no {what}, or it has not all of these revisions")
    if not chosen:
        return Refused("already-erased", f"nothing is left to erase of {what}: block {erased} did it")
    return table_id, number, chosen


def _table(state: LedgerState, transition: Transition, name: str) -> tuple[str, int] | None:
    """Id and number of the table that a name or an id names. The catalogue itself cannot be erased."""
    match = _TABLE_ID.fullmatch(name)
    if match is None:
        table = state.tables.get(name)
        return None if table is None or table.number == CATALOGUE_NUMBER else (table.id, table.number)
    number = int(match[2])
    created = keys.revisions_of_table(state.number, CATALOGUE_NUMBER) + match[1].encode() + b"\0"
    known = any(keys.place_of(key[len(created) :])[0] == number for key, _ in transition.revisions(created))
    return (name, number) if known and number != CATALOGUE_NUMBER else None
