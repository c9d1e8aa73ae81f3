"""Applying a transaction: checks, then one block. Deterministic: a function of the state and the command.

No clock, no randomness, no order of sets, no environment (DESIGN.md section 3): every replica makes the
same bytes from the same command.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from stele.format.block import header_bytes, information_bytes, leaf_end, leaf_with_end
from stele.format.merkle import leaf_hash, root_of_leaves
from storage import keys, limits, rows
from storage.commands import Condition, Operation, Transact
from storage.keys import revision_suffix
from storage.ledger_state import LedgerState
from storage.outcomes import Committed, Refused
from storage.rows import OP_NUMBERS, encode_current, revision_head
from storage.transition import Transition

_PUT = rows.OP_NUMBERS["put"]
_sha256 = hashlib.sha256


def transact(state: LedgerState, transition: Transition, command: Transact) -> Committed | Refused:
    """Commits `command` as the ledger's next block, or refuses it and leaves the ledger as it was."""
    key = command.idempotency_key
    key_hash = b"" if key is None else hashlib.sha256(key.encode()).digest()
    operations: Sequence[Operation] = command.operations
    skipped = 0
    if key is not None:
        answer = transition.first_answer(state, key_hash)
        if answer is not None:
            skipped, repeated = _repeat(answer, command)
            if repeated is not None:
                return repeated
            operations = operations[skipped:]
    refused = _refusal(state, transition, command, operations)
    if refused is not None:
        # A refused bulk chunk is tried again with the next attempt at the stream.
        kept_hash = b"" if command.bulk_line is not None else key_hash
        transition.record_refusal(state, command.tx, refused, kept_hash, command.request_digest)
        return refused
    outcome = append_block(state, transition, command.tx, command.at, command.by, key, operations)
    line = None if command.bulk_line is None else command.bulk_line + len(command.operations) - 1
    transition.record_commit(state, outcome, key_hash, command.request_digest, line)
    if skipped:
        return Committed(outcome.seq, outcome.at, outcome.tx, outcome.versions, duplicates=skipped)
    return outcome


def _repeat(answer: rows.FirstAnswer, command: Transact) -> tuple[int, Committed | Refused | None]:
    """How many operations at the front were committed before, and the answer if that settles it."""
    reused = key_reused(answer, command.request_digest)
    if reused is not None:
        return 0, reused
    first = answer.outcome
    if command.bulk_line is None or answer.line is None:
        if isinstance(first, Refused):
            return 0, first
        return 0, Committed(first.seq, first.at, first.tx, first.versions, repeated=True)
    skipped = min(max(answer.line - command.bulk_line + 1, 0), len(command.operations))
    if skipped < len(command.operations) or isinstance(first, Refused):
        return skipped, None
    return skipped, Committed(first.seq, first.at, first.tx, (), repeated=True, duplicates=skipped)


def key_reused(answer: rows.FirstAnswer, request_digest: bytes) -> Refused | None:
    """The refusal when a key comes back with another request, or with one that nobody can compare."""
    if answer.request_digest == request_digest:
        return None
    what = "with another request" if answer.request_digest else "with a request whose content is erased"
    return Refused("idempotency-key-reused", f"the idempotency key was used before {what}")


def _refusal(
    state: LedgerState, transition: Transition, command: Transact, operations: Sequence[Operation]
) -> Refused | None:
    """Why the transaction cannot be committed, or None."""
    checked, deletes = None, False
    for operation in operations:
        if operation.table != checked:
            checked = operation.table
            refused = _table_refusal(state, checked)
            if refused is not None:
                return refused
        if operation.op == "delete":
            deletes = True
    for index, condition in enumerate(command.conditions):
        refused = _check_condition(state, transition, command.read_seq, index, condition)
        if refused is not None:
            return refused
    return _delete_refusal(state, transition, operations) if deletes else None


def _table_refusal(state: LedgerState, name: str) -> Refused | None:
    table = state.tables.get(name)
    if table is None:
        return Refused("table-unknown", f"there is no table {name!r}")
    if not table.active:
        return Refused("table-dropped", f"table {name!r} was dropped")
    return None


def _delete_refusal(
    state: LedgerState, transition: Transition, operations: Sequence[Operation]
) -> Refused | None:
    live: dict[bytes, bool] = {}
    for operation in operations:
        key = state.tables[operation.table].current_prefix + operation.key.encode()
        if operation.op == "delete":
            current = None if key in live else transition.current(state.tables[operation.table], key)
            if current is not None and current.op != _PUT:
                detail = f"document {operation.key!r} was deleted in block {current.seq} already"
                return Refused("document-missing", detail, current_version=current.version)
            if current is None and not live.get(key):
                detail = f"there is no document {operation.key!r} in table {operation.table!r}"
                return Refused("document-missing", detail)
        live[key] = operation.op == "put"
    return None


def _check_condition(
    state: LedgerState, transition: Transition, read_seq: int | None, index: int, condition: Condition
) -> Refused | None:
    refused = _table_refusal(state, condition.table)
    if refused is not None:
        return Refused(refused.reason, refused.detail, condition=index)
    table = state.tables[condition.table]
    read_at = -1 if read_seq is None else read_seq
    if condition.key is None:
        prefix = table.current_prefix + (condition.prefix or "").encode()
        changed = table.last_seq > read_at and _range_changed(
            transition, prefix, read_at, whole=not condition.prefix
        )
        if not changed:
            return None
        what = f"keys with prefix {condition.prefix!r}" if condition.prefix else "the table"
        detail = f"{what} in {condition.table!r} changed after block {read_at}"
        return Refused("condition-failed", detail, condition=index)
    current = transition.current(table, table.current_prefix + condition.key.encode())
    if condition.kind == "unchanged":
        if current is None or current.seq <= read_at:
            return None
        detail = f"document {condition.key!r} changed in block {current.seq}, after block {read_at}"
        return Refused("condition-failed", detail, index, current.version)
    version = current.version if current is not None and current.op == _PUT else None
    wanted = condition.version if condition.kind == "version" else None
    if version == wanted:
        return None
    return Refused("version-mismatch", _mismatch(condition.key, version, wanted), index, version)


def _mismatch(key: str, version: int | None, wanted: int | None) -> str:
    found = "does not exist" if version is None else f"is at version {version}"
    expected = "must not exist" if wanted is None else f"must be at version {wanted}"
    return f"document {key!r} {found}, but {expected}"


def _range_changed(transition: Transition, prefix: bytes, read_at: int, *, whole: bool) -> bool:
    """Whether a key under `prefix` changed after block `read_at`. Past the stated bound the answer is
    yes: refusing is always safe."""
    if whole:
        return True
    if any(current.seq > read_at for current in transition.revised(prefix)):
        return True
    for count, (_, row) in enumerate(transition.disk.scan(prefix, keys.end_of(prefix))):
        if count >= limits.CONDITION_SCAN_ROWS_MAX or rows.decode_current(row).seq > read_at:
            return True
    return False


def append_block(
    state: LedgerState,
    transition: Transition,
    tx: bytes,
    at: int,
    by: str,
    idempotency_key: str | None,
    operations: Sequence[Operation],
) -> Committed:
    """Writes the ledger's next block with one revision an operation.

    Block times never go back: a leader whose clock is behind the last block takes that block's time.
    """
    seq = state.size
    at = max(at, state.last_at)
    versions, leaves, hashes = _write_revisions(state, transition, tx, at, seq, operations)
    information, information_hash = (
        _information_of(by) if idempotency_key is None else _information(by, idempotency_key)
    )
    header = header_bytes(
        ledger=state.row.id,
        seq=seq,
        prev=state.head,
        at_us=at,
        tx=tx,
        information_hash=information_hash,
        revision_count=len(leaves),
        revision_root=root_of_leaves(hashes),
    )
    extend_journal(state, transition, header, information, tuple(leaves), at)
    return Committed(seq, at, tx, tuple(versions))


def _information(by: str, idempotency_key: str | None) -> tuple[bytes, bytes]:
    """A transaction's information, and its hash."""
    information = information_bytes(by, idempotency_key)
    return information, hashlib.sha256(information).digest()


@lru_cache(maxsize=limits.WRITERS_CACHED)
def _information_of(by: str) -> tuple[bytes, bytes]:
    """As `_information`, where it is the same for every transaction of a writer."""
    return _information(by, None)


def _write_revisions(
    state: LedgerState, transition: Transition, tx: bytes, at: int, seq: int, operations: Sequence[Operation]
) -> tuple[list[int], list[bytes], list[bytes]]:
    """Writes the next revision of each operation's document; returns their versions, leaves and leaf hashes.

    One loop that asks nobody about a document that is new: a bulk load spends its time here.
    """
    versions, leaves, hashes = [], [], []
    unsealed, current_rows, revision_rows = state.unsealed, transition.current_rows, transition.revision_rows
    table = None
    for index, operation in enumerate(operations):
        if table is None or operation.table != table.name:
            table = state.tables[operation.table]
            transition.use(table, seq)
        op, salt, payload = operation.op, operation.salt, operation.payload
        key = operation.key.encode()
        current_key = table.current_prefix + key
        if current_key > table.last_key:
            table.last_key = current_key
            previous = None
        else:
            previous = transition.current_row(table, current_key)
        commitment = _sha256(salt + payload).hexdigest()
        if previous is None:
            version = stored_prev = 0
            end = table.first_leaf_end if op == "put" else leaf_end(table.id, 0, op, None)
        else:
            version, prev_seq = rows.current_version_and_seq(previous)
            version, stored_prev = version + 1, prev_seq + 1
            end = leaf_end(table.id, version, op, prev_seq)
        leaf = leaf_with_end(commitment, operation.key, end)
        hashed = _sha256(b"\0" + leaf).digest()
        number = OP_NUMBERS[op]
        row = encode_current(version, seq, index, number, hashed)
        unsealed[table.key_hash_prefix + key] = current_rows[current_key] = row
        if previous is not None:
            transition.rewritten[current_key] = row
        revision_key = table.revisions_prefix + key + b"\0" + revision_suffix(seq, index)
        head = revision_head(version, index, number, at, stored_prev, tx, salt)
        revision_rows[revision_key] = head + payload
        versions.append(version)
        leaves.append(leaf)
        hashes.append(hashed)
    return versions, leaves, hashes


def extend_journal(
    state: LedgerState,
    transition: Transition,
    header: bytes,
    information: bytes,
    leaves: tuple[bytes, ...],
    at: int,
) -> None:
    """Adds a block to the journal and its hash to the tree, and moves the journal's end."""
    number = state.number
    block = rows.StoredBlock(header, information, leaves)
    transition.blocks[keys.block(number, state.size)] = rows.encode(block)
    state.head = leaf_hash(header)
    state.last_at = at
    for level, index, tile in state.tree.append(state.head):
        transition.put(keys.tile(number, level, index), tile)
    transition.changed(state)
