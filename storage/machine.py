"""The state machine that Raft drives: entries in, blocks and outcomes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from stele.format.block import genesis_header_bytes, information_bytes
from stele.format.canonical import canonicalize
from storage import keys, limits, rows
from storage.commands import (
    Command,
    CreateLedger,
    CreateTable,
    DropLedger,
    DropTable,
    Erase,
    Operation,
    Seal,
    SetLedger,
    Transact,
    decode_group,
)
from storage.current_rows import CurrentRows
from storage.disk import Disk
from storage.erasure import erase
from storage.errors import InvariantBroken
from storage.ledger_state import (
    CATALOGUE_TABLE,
    LedgerState,
    TableState,
    new_tree,
)
from storage.outcomes import Committed, LedgerChanged, Outcome, Refused
from storage.recovery import load_ledgers
from storage.seal import forget_unsealed, seal, work_ahead
from storage.state_buckets import WriteBack
from storage.state_map import StateMap
from storage.transact import append_block, extend_journal, transact
from storage.transition import Dispute, Transition


class LedgerMachine:
    """Applies Raft entries to the store. Satisfies `consensus.replica.StateMachine`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._current_rows = CurrentRows(disk)
        self._write_back = WriteBack()
        self._ahead_of_disk = False
        self.ledgers: dict[str, LedgerState] = load_ledgers(disk, self._write_back)
        stored_index = disk.get(keys.APPLIED_INDEX)
        self._applied_index = 0 if stored_index is None else rows.U64.unpack(stored_index)[0]
        stored_next = disk.get(keys.NEXT_LEDGER)
        self.changed: tuple[LedgerState, ...] = ()
        """The ledgers that the last entry changed."""
        self.disputes: tuple[Dispute, ...] = ()
        """Seals in the last entry whose proposer had another journal or another state than this replica."""
        self._next_ledger: int = 1 if stored_next is None else rows.U64.unpack(stored_next)[0]

    @property
    def applied_index(self) -> int:
        """The Raft index of the last entry whose effects are in the store."""
        return self._applied_index

    def apply(self, index: int, payload: bytes) -> list[Outcome]:
        """Applies one entry: all its commands, and the applied index, in one write batch.

        The batch is not synced: the Raft log is, and replays from the applied index. Raises
        `InvariantBroken` when `index` was applied before or `payload` is no group of commands, and
        `StorageFailed` when the write fails; the node must stop on either, since memory may then be
        ahead of the disk.
        """
        if index <= self._applied_index:
            raise InvariantBroken(f"entry {index} came after entry {self._applied_index} was applied")
        try:
            commands = decode_group(payload)
        except msgspec.MsgspecError as error:
            raise InvariantBroken(f"entry {index} is not a group of commands: {error}") from error
        self._ahead_of_disk = True
        self._write_back.write(self._disk)
        transition = Transition(self._disk, self._current_rows)
        outcomes = [self._apply_command(transition, command, index) for command in commands]
        transition.finish()
        transition.put(keys.APPLIED_INDEX, rows.U64.pack(index))
        self._disk.write(transition.batch)
        transition.written()
        self._applied_index = index
        self.changed = tuple(transition.changed_ledgers)
        self.disputes = tuple(transition.disputes)
        for state in self.changed:
            forget_unsealed(state)
        self._ahead_of_disk = False
        return outcomes

    def write_back(self) -> None:
        """Between entries: writes all that the disk has not yet of the state maps, so that the next start has
        nothing to do again. Not after a step that failed: the disk may have less than memory says. Raises
        StorageFailed."""
        if not self._ahead_of_disk:
            self._ahead_of_disk = True
            self._write_back.write_all(self._disk)
            self._ahead_of_disk = False

    def work_ahead(self, ledgers: Iterable[str], keys_min: int = limits.SEAL_SLICE_KEYS) -> None:
        """Between entries: do what can be done by now for the next seals of these ledgers, so that applying
        those takes little. Not needed, and without effect on what is applied."""
        for name in ledgers:
            state = self.ledgers.get(name)
            if state is not None:
                work_ahead(state, keys_min)

    def _apply_command(self, transition: Transition, command: Command, index: int) -> Outcome:
        if isinstance(command, CreateLedger):
            return self._create_ledger(transition, command)
        state = self.ledgers.get(command.ledger)
        if state is None:
            return Refused("ledger-unknown", f"there is no ledger {command.ledger!r}")
        if isinstance(command, Transact):
            return transact(state, transition, command)
        if isinstance(command, Erase):
            return erase(state, transition, command, index)
        if isinstance(command, CreateTable):
            return _create_table(state, transition, command)
        if isinstance(command, DropTable):
            return _drop_table(state, transition, command)
        if isinstance(command, Seal):
            return seal(state, transition, command)
        if isinstance(command, SetLedger):
            return _set_ledger(state, transition, command)
        return self._drop_ledger(state, transition, command)

    def _create_ledger(self, transition: Transition, command: CreateLedger) -> Outcome:
        name = command.ledger
        if name in self.ledgers:
            return LedgerChanged(created=False)
        if len(self.ledgers) >= limits.LEDGERS_MAX:
            return Refused(
                "ledger-limit", f"the cluster has {limits.LEDGERS_MAX} ledgers, the most it can have"
            )
        number = self._next_ledger
        row = rows.LedgerRow(number, command.id, command.at, command.deletion_protection)
        state_map = StateMap(self._disk, number, self._write_back)
        state = LedgerState(name, row, new_tree(self._disk, number), state_map)
        information = information_bytes(command.by, None)
        header = genesis_header_bytes(
            ledger=command.id,
            name=name,
            at_us=command.at,
            tx=command.tx,
            information_hash=hashlib.sha256(information).digest(),
        )
        extend_journal(state, transition, header, information, (), command.at)
        transition.put(keys.transaction(number, command.tx), rows.U64.pack(0))
        transition.put(keys.ledger_row(name), rows.encode(row))
        self._next_ledger += 1
        transition.put(keys.NEXT_LEDGER, rows.U64.pack(self._next_ledger))
        self.ledgers[name] = state
        return LedgerChanged(created=True)

    def _drop_ledger(self, state: LedgerState, transition: Transition, command: DropLedger) -> Outcome:
        if state.row.deletion_protection:
            detail = (
                f"ledger {command.ledger!r} is protected from deletion; turn deletion_protection off first"
            )
            return Refused("deletion-protected", detail)
        for kind in keys.PER_LEDGER_KINDS:
            prefix = keys.of_ledger(bytes([kind]), state.number)
            transition.batch.delete_range(prefix, keys.end_of(prefix))
        transition.batch.delete(keys.ledger_row(command.ledger))
        # A ledger that takes the name again is another log (node/checkpoints.py).
        transition.put(keys.dropped_ledger(command.ledger), state.row.id)
        transition.dropped(state)
        state.map.buckets.drop()
        del self.ledgers[command.ledger]
        return LedgerChanged(created=False)


def _set_ledger(state: LedgerState, transition: Transition, command: SetLedger) -> LedgerChanged:
    state.row = msgspec.structs.replace(state.row, deletion_protection=command.deletion_protection)
    transition.put(keys.ledger_row(state.name), rows.encode(state.row))
    return LedgerChanged(created=False)


def _create_table(state: LedgerState, transition: Transition, command: CreateTable) -> Outcome:
    table = state.tables.get(command.table)
    if table is not None and table.active:
        return Refused("table-exists", f"table {command.table!r} exists already")
    outcome = _catalogue_revision(state, transition, command, "active")
    state.tables[command.table] = TableState(command.table, outcome.seq, state.row)
    return outcome


def _drop_table(state: LedgerState, transition: Transition, command: DropTable) -> Outcome:
    table = state.tables.get(command.table)
    if table is None:
        return Refused("table-unknown", f"there is no table {command.table!r}")
    if not table.active:
        return Refused("table-dropped", f"table {command.table!r} was dropped before")
    outcome = _catalogue_revision(state, transition, command, "dropped")
    table.active = False
    return outcome


def _catalogue_revision(
    state: LedgerState, transition: Transition, command: CreateTable | DropTable, new_state: str
) -> Committed:
    """The catalogue is itself a table of the ledger, so that its changes are provable like any other."""
    payload = canonicalize({"name": command.table, "indexes": [], "state": new_state})
    operation = Operation("put", CATALOGUE_TABLE, command.table, payload, command.salt)
    outcome = append_block(state, transition, command.tx, command.at, command.by, None, [operation])
    transition.record_commit(state, outcome, b"", b"", None)
    return outcome
