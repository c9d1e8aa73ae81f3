"""What a ledger should answer: the semantics of DESIGN.md section 3 once more, in plain dictionaries.

It shares no code with `storage` but the commands and the outcomes. The committed entries are run through it
once, in their order; every node's outcomes and every read are compared with what it says.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from storage.commands import (
    Command,
    Condition,
    CreateLedger,
    CreateTable,
    DropLedger,
    DropTable,
    Erase,
    Operation,
    Seal,
    SetLedger,
    Transact,
)

Place: TypeAlias = tuple[str, str, str]
"""Ledger, table and key of a document."""


class Answer(NamedTuple):
    """An outcome without what the model does not know: words, times and transaction ids."""

    kind: str
    seq: int = -1
    versions: tuple[int, ...] = ()
    repeated: bool = False


class Shown(NamedTuple):
    """A live document as a read shows it."""

    version: int
    payload: bytes


@dataclass(slots=True)
class _Document:
    version: int
    seq: int
    payload: bytes | None
    erased: set[int] = field(default_factory=set)
    seqs: list[int] = field(default_factory=list)
    """The block of each version."""


@dataclass(slots=True)
class _Table:
    active: bool = True
    last_seq: int = -1
    documents: dict[str, _Document] = field(default_factory=dict)


@dataclass(slots=True)
class _Ledger:
    id: bytes
    protected: bool
    size: int = 1
    sealed_size: int = 0
    tables: dict[str, _Table] = field(default_factory=dict)
    catalogue: dict[str, int] = field(default_factory=dict)
    answers: dict[str, tuple[bytes, Answer]] = field(default_factory=dict)


class Model:
    """All ledgers after the entries applied so far, and every document as of any of them."""

    def __init__(self) -> None:
        self._ledgers: dict[str, _Ledger] = {}
        self._history: dict[Place, tuple[list[int], list[Shown | None]]] = {}
        self.index = 0

    def apply(self, index: int, commands: Sequence[Command]) -> list[Answer]:
        """Runs the entry at `index`; entries come in their order."""
        self.index = index
        return [self._command(command) for command in commands]

    def shown(self, place: Place, index: int) -> Shown | None:
        """What a read of a document shows right after the entry at `index`."""
        indexes, values = self._history.get(place, ([], []))
        found = bisect_right(indexes, index)
        return values[found - 1] if found else None

    def _show(self, place: Place, shown: Shown | None) -> None:
        indexes, values = self._history.setdefault(place, ([], []))
        indexes.append(self.index)
        values.append(shown)

    def _command(self, command: Command) -> Answer:
        name = command.ledger
        ledger = self._ledgers.get(name)
        match command:
            case CreateLedger():
                if ledger is None:
                    self._ledgers[name] = _Ledger(command.id, command.deletion_protection)
                return Answer("created" if ledger is None else "unchanged")
            case _ if ledger is None:
                return Answer("ledger-unknown")
            case SetLedger():
                ledger.protected = command.deletion_protection
                return Answer("unchanged")
            case DropLedger():
                return self._drop_ledger(ledger, name)
            case CreateTable():
                return self._create_table(ledger, command)
            case DropTable():
                return self._drop_table(ledger, command)
            case Transact():
                return self._transact(ledger, command)
            case Erase():
                return self._erase(ledger, command)
            case Seal():
                return self._seal(ledger, command)

    def _seal(self, ledger: _Ledger, command: Seal) -> Answer:
        if command.id != ledger.id:
            return Answer("ledger-unknown")
        if ledger.sealed_size == ledger.size:
            return Answer("nothing-to-seal")
        ledger.size += 1
        ledger.sealed_size = ledger.size
        return Answer("committed", ledger.size - 1)

    def _drop_ledger(self, ledger: _Ledger, name: str) -> Answer:
        if ledger.protected:
            return Answer("deletion-protected")
        for table in ledger.tables:
            self._hide(name, table, ledger)
        del self._ledgers[name]
        return Answer("unchanged")

    def _hide(self, name: str, table: str, ledger: _Ledger) -> None:
        for key in ledger.tables[table].documents:
            self._show((name, table, key), None)

    def _create_table(self, ledger: _Ledger, command: CreateTable) -> Answer:
        table = ledger.tables.get(command.table)
        if table is not None and table.active:
            return Answer("table-exists")
        ledger.tables[command.table] = _Table()
        return _catalogue_block(ledger, command.table)

    def _drop_table(self, ledger: _Ledger, command: DropTable) -> Answer:
        table = ledger.tables.get(command.table)
        if table is None:
            return Answer("table-unknown")
        if not table.active:
            return Answer("table-dropped")
        self._hide(command.ledger, command.table, ledger)
        table.active = False
        return _catalogue_block(ledger, command.table)

    def _transact(self, ledger: _Ledger, command: Transact) -> Answer:
        key = command.idempotency_key
        if key is not None and key in ledger.answers:
            digest, first = ledger.answers[key]
            if digest != command.request_digest:
                return Answer("idempotency-key-reused")
            return first._replace(repeated=True) if first.kind == "committed" else first
        refused = _refusal(ledger, command)
        answer = Answer(refused) if refused else self._commit(ledger, command)
        if key is not None:
            ledger.answers[key] = (command.request_digest, answer)
        return answer

    def _commit(self, ledger: _Ledger, command: Transact) -> Answer:
        versions: list[int] = []
        for operation in command.operations:
            table = ledger.tables[operation.table]
            before = table.documents.get(operation.key)
            version = 0 if before is None else before.version + 1
            payload = operation.payload if operation.op == "put" else None
            erased, seqs = (set[int](), list[int]()) if before is None else (before.erased, before.seqs)
            seqs.append(ledger.size)
            table.documents[operation.key] = _Document(version, ledger.size, payload, erased, seqs)
            table.last_seq = ledger.size
            shown = None if payload is None else Shown(version, payload)
            self._show((command.ledger, operation.table, operation.key), shown)
            versions.append(version)
        return _next_block(ledger, tuple(versions))

    def _erase(self, ledger: _Ledger, command: Erase) -> Answer:
        table = ledger.tables.get(command.table)
        if table is None:
            return Answer("table-unknown")
        document = table.documents.get(command.key)
        if document is None or max(command.versions or (0,)) > document.version:
            return Answer("revision-unknown")
        wanted = range(document.version + 1) if command.versions is None else sorted(set(command.versions))
        fresh = tuple(version for version in wanted if version not in document.erased)
        if not fresh:
            return Answer("already-erased")
        document.erased.update(fresh)
        made = {document.seqs[version] for version in fresh}
        for key, (_, first) in ledger.answers.items():
            if first.kind == "committed" and first.seq in made:
                ledger.answers[key] = b"", first
        if table.active and document.payload is not None and document.version in fresh:
            self._show((command.ledger, command.table, command.key), Shown(document.version, b""))
        return _next_block(ledger, fresh)


def _next_block(ledger: _Ledger, versions: tuple[int, ...]) -> Answer:
    ledger.size += 1
    return Answer("committed", ledger.size - 1, versions)


def _catalogue_block(ledger: _Ledger, table: str) -> Answer:
    version = ledger.catalogue.get(table, -1) + 1
    ledger.catalogue[table] = version
    return _next_block(ledger, (version,))


def _refusal(ledger: _Ledger, command: Transact) -> str:
    """Why the transaction is refused; empty when it is not."""
    for operation in command.operations:
        refused = _table_refusal(ledger, operation.table)
        if refused:
            return refused
    read_at = -1 if command.read_seq is None else command.read_seq
    for condition in command.conditions:
        refused = _table_refusal(ledger, condition.table) or _condition_refusal(
            ledger.tables[condition.table], condition, read_at
        )
        if refused:
            return refused
    return _delete_refusal(ledger, command.operations)


def _table_refusal(ledger: _Ledger, name: str) -> str:
    table = ledger.tables.get(name)
    if table is None:
        return "table-unknown"
    return "" if table.active else "table-dropped"


def _condition_refusal(table: _Table, condition: Condition, read_at: int) -> str:
    if condition.key is None:
        if condition.prefix:
            under = [each for key, each in table.documents.items() if key.startswith(condition.prefix)]
            changed = any(each.seq > read_at for each in under)
        else:
            changed = table.last_seq > read_at
        return "condition-failed" if changed else ""
    found = table.documents.get(condition.key)
    if condition.kind == "unchanged":
        return "condition-failed" if found is not None and found.seq > read_at else ""
    version = None if found is None or found.payload is None else found.version
    wanted = condition.version if condition.kind == "version" else None
    return "" if version == wanted else "version-mismatch"


def _delete_refusal(ledger: _Ledger, operations: Sequence[Operation]) -> str:
    live: dict[tuple[str, str], bool] = {}
    for operation in operations:
        place = operation.table, operation.key
        found = ledger.tables[operation.table].documents.get(operation.key)
        is_live = live.get(place, found is not None and found.payload is not None)
        if operation.op == "delete" and not is_live:
            return "document-missing"
        live[place] = operation.op == "put"
    return ""
