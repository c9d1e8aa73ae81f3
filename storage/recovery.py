"""What a start does: every ledger as the last applied command left it, from the rows of the store."""

from __future__ import annotations

from stele.format.block import parse_header
from stele.format.merkle import leaf_hash
from stele.format.state_map import EMPTY
from storage import keys, rows
from storage.disk import Disk
from storage.errors import InvariantBroken
from storage.ledger_state import CATALOGUE_TABLE, LedgerState, catalogue_table, new_tree, stored_block
from storage.seal import seal_again
from storage.state_buckets import WriteBack
from storage.state_map import StateMap
from storage.tree import JournalTree


def load_ledgers(disk: Disk, write_back: WriteBack) -> dict[str, LedgerState]:
    """Every ledger of the store, as the last applied command left it. Their maps share `write_back`."""
    ledgers = {}
    for key, value in disk.scan(keys.LEDGERS, keys.end_of(keys.LEDGERS)):
        name = key[len(keys.LEDGERS) :].decode()
        ledgers[name] = _load(disk, name, rows.decode_ledger(value), write_back)
    return ledgers


def _load(disk: Disk, name: str, row: rows.LedgerRow, write_back: WriteBack) -> LedgerState:
    number = row.number
    stored_end = disk.get(keys.journal_end(number))
    if stored_end is None:
        raise InvariantBroken(f"ledger {name!r}: the row of its journal's end is missing")
    end = rows.decode_journal_end(stored_end)
    tree = new_tree(disk, number)
    tree.load(end.size, lambda seq: leaf_hash(stored_block(disk, number, seq).header))
    last_header = stored_block(disk, number, end.size - 1).header
    if leaf_hash(last_header) != end.head:
        raise InvariantBroken(f"ledger {name!r}: block {end.size - 1} is not the one the journal ended with")
    _check_sealed_root(name, tree, end.sealed)
    state_map = StateMap(disk, number, write_back)
    state = LedgerState(name, row, tree, state_map, end.head, parse_header(last_header).at_us)
    state.refusals_from = end.refusals_from
    state.refusals_to = end.refusals_to
    state.sealed = end.sealed
    state.unsealed_from = end.size
    _load_map(disk, state)
    _load_tables(disk, state)
    _load_erasures(disk, state)
    return state


def _check_sealed_root(name: str, tree: JournalTree, sealed: rows.Sealed | None) -> None:
    """A tile that was altered makes another root: found here, before this node cosigns it."""
    found = b"" if sealed is None else tree.root(sealed.size)
    if sealed is not None and found != sealed.root:
        raise InvariantBroken(
            f"ledger {name!r}: the root of {sealed.size} blocks is {found.hex()}, but seal {sealed.seal_seq} "
            f"had {sealed.root.hex()}; steled fsck names the block or tile"
        )


def _load_erasures(disk: Disk, state: LedgerState) -> None:
    prefix = keys.of_ledger(b"E", state.number)
    for key, value in disk.scan(prefix, keys.end_of(prefix)):
        row = rows.decode_erasure(value)
        if not row.completed_at:
            state.erasures[rows.U64.unpack(key[len(prefix) :])[0]] = row


def _load_map(disk: Disk, state: LedgerState) -> None:
    name, sealed = state.name, state.sealed
    start = state.map.load()
    size, expected = (0, EMPTY) if sealed is None else (sealed.size, sealed.state_root)
    if start > size:
        raise InvariantBroken(
            f"ledger {name!r}: the state map is said to be written up to block {start}, {size} are sealed; "
            "steled fsck names what is wrong"
        )
    if start < size:
        seal_again(disk, state, start, size)
    if state.map.root != expected:
        by = "nothing is sealed" if sealed is None else f"seal {sealed.seal_seq} says {expected.hex()}"
        raise InvariantBroken(
            f"ledger {name!r}: the state map's root is {state.map.root.hex()}, but {by}; steled fsck names "
            "the bucket"
        )


def _load_tables(disk: Disk, state: LedgerState) -> None:
    prefix = state.tables[CATALOGUE_TABLE].current_prefix
    for key, value in disk.scan(prefix, keys.end_of(prefix)):
        name = key[len(prefix) :].decode()
        state.tables[name] = catalogue_table(disk, state.row, name, rows.decode_current(value))
    for table in state.tables.values():
        used = disk.get(keys.table_use(state.number, table.number))
        if used is not None:
            table.last_seq = rows.U64.unpack(used)[0]
