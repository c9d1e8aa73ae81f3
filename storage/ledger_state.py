"""What the state machine keeps in memory of each ledger: its journal's end, tree edge and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from stele.format.block import leaf_end
from stele.format.state_map import key_hash_prefix
from storage import keys, rows
from storage.disk import Disk
from storage.errors import InvariantBroken
from storage.state_map import StateMap
from storage.tree import TILE_SIZE_BYTES, JournalTree

CATALOGUE_TABLE = "$tables"
CATALOGUE_NUMBER = 0


def table_id(name: str, created_seq: int) -> str:
    """A table's identity in revision leaves: it names the table and differs after drop and create."""
    return f"{name}@{created_seq}"


class CatalogueEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document of the catalogue table; its key is the table's name."""

    name: str
    indexes: list[str]
    state: Literal["active", "dropped"]


class _Information(msgspec.Struct, frozen=True):
    idempotency_key: str | None = None


_decode_information = msgspec.json.Decoder(_Information).decode


@dataclass(slots=True)
class TableState:
    """A table as of the newest block. `number` is the seq of the block that created it.

    No current row's key is greater than `last_key`: behind it there is nothing to look for, so that keys that
    ascend, as those that a node makes up, are known to be new.
    """

    name: str
    number: int
    ledger: rows.LedgerRow
    active: bool = True
    last_seq: int = 0
    last_key: bytes = keys.BEHIND_ALL
    id: str = field(init=False)
    first_leaf_end: str = field(init=False)
    key_hash_prefix: bytes = field(init=False)
    current_prefix: bytes = field(init=False)
    revisions_prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.id = table_id(self.name, self.number)
        self.first_leaf_end = leaf_end(self.id, 0, "put", None)
        self.key_hash_prefix = key_hash_prefix(self.ledger.id, self.id)
        self.current_prefix = keys.current_of_table(self.ledger.number, self.number)
        self.revisions_prefix = keys.revisions_of_table(self.ledger.number, self.number)


@dataclass(slots=True)
class LedgerState:
    """A ledger as of the newest applied command.

    `map` is the state map as of the newest seal, `sealed`. `unsealed` has the current row of every key
    that blocks from `unsealed_from` on have revised and that is not staged in `map` for the next seal, under
    what its key hash is the SHA-256 of; blocks between the newest seal and that are read again when they are
    sealed (after a start, for one).
    """

    name: str
    row: rows.LedgerRow
    tree: JournalTree
    map: StateMap
    head: bytes = bytes(32)
    last_at: int = 0
    refusals_from: int = 0
    refusals_to: int = 0
    sealed: rows.Sealed | None = None
    unsealed: dict[bytes, bytes] = field(default_factory=dict)
    unsealed_from: int = 0
    tables: dict[str, TableState] = field(default_factory=dict)
    erasures: dict[int, rows.ErasureRow] = field(default_factory=dict)
    """Erasures that this node has not completed, by their blocks."""
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = self.row.number
        self.tables[CATALOGUE_TABLE] = TableState(CATALOGUE_TABLE, CATALOGUE_NUMBER, self.row)

    @property
    def size(self) -> int:
        """How many blocks the journal has."""
        return self.tree.size

    @property
    def unsealed_keys(self) -> int:
        """How many keys were revised since the newest seal, nearly: those revised again may count as two."""
        return self.map.staged_rows + len(self.unsealed)

    def end_row(self) -> bytes:
        end = rows.JournalEnd(self.size, self.head, self.refusals_from, self.refusals_to, self.sealed)
        return rows.encode(end)


def new_tree(disk: Disk, number: int) -> JournalTree:
    """An empty tree that reads its full tiles from `disk`."""

    def read_tile(level: int, index: int) -> bytes:
        tile = disk.get(keys.tile(number, level, index))
        if tile is None or len(tile) != TILE_SIZE_BYTES:
            raise InvariantBroken(f"ledger {number}: tile {index} of level {level} is missing or short")
        return tile

    return JournalTree(read_tile)


def stored_block(disk: Disk, number: int, seq: int) -> rows.StoredBlock:
    """Block `seq`, which must exist. Raises `InvariantBroken` when its row is missing or unreadable."""
    row = disk.get(keys.block(number, seq))
    if row is None:
        raise InvariantBroken(f"ledger {number}: block {seq} is missing")
    try:
        return rows.decode_block(row)
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"ledger {number}: block {seq} is unreadable: {error}") from error


def idempotency_key_of(information: bytes) -> str | None:
    """The idempotency key of a transaction's information, if it had one."""
    found: str | None = _decode_information(information).idempotency_key
    return found


def catalogue_table(disk: Disk, ledger: rows.LedgerRow, name: str, current: rows.Current) -> TableState:
    """The table that the catalogue's revision at `current` describes. A dropped table keeps the number
    of the revision that created it, which is the one before."""
    entry, prev_seq = _catalogue_entry(disk, ledger.number, name, current.seq, current.leaf_index)
    if entry.state == "active":
        return TableState(name, current.seq, ledger)
    if prev_seq is None:
        raise InvariantBroken(f"ledger {ledger.number}: table {name!r} was dropped but never created")
    return TableState(name, prev_seq, ledger, active=False)


def _catalogue_entry(
    disk: Disk, number: int, name: str, seq: int, leaf_index: int
) -> tuple[CatalogueEntry, int | None]:
    key = keys.revisions_of_table(number, CATALOGUE_NUMBER) + name.encode() + b"\0"
    stored = disk.get(key + keys.revision_suffix(seq, leaf_index))
    if stored is None:
        raise InvariantBroken(f"ledger {number}: the catalogue's entry for table {name!r} is missing")
    revision = rows.decode_revision(stored)
    try:
        entry = msgspec.json.decode(revision.payload, type=CatalogueEntry)
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"ledger {number}: table {name!r} is unreadable: {error}") from error
    return entry, revision.prev_seq
