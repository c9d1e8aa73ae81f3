"""What must hold in every history, checked while it happens.

Of Raft (thesis figure 3.2): election safety, log matching, leader completeness, state machine safety. Of
Stele: an acknowledged entry is never lost, every replica writes the same bytes, an outcome is what the model
says, an idempotency key makes one revision, a strong read is linearizable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from chaos.simulation.disk import Row, SimulatedDisk
from chaos.simulation.evidence import Evidence
from chaos.simulation.model import Answer, Model, Place, Shown
from chaos.simulation.violation import Violation
from consensus import membership
from consensus.membership import Membership
from consensus.raft_core import RaftCore
from consensus.record import Kind, kind_of, payload_of
from consensus.snapshot import Snapshot
from storage import keys
from storage.commands import Command, DropLedger, Transact, decode_group
from storage.errors import InvariantBroken
from storage.machine import LedgerMachine
from storage.outcomes import Committed, LedgerChanged, Outcome

_ENTRIES_OF_A_LEADER_CHECKED_MAX = 256


State: TypeAlias = list[tuple[object, ...]]


class _Applied(NamedTuple):
    payload: bytes
    record: bytes
    outcomes: list[Outcome]
    state: State


class Promises:
    """What one history has shown so far."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.leaders: dict[int, str] = {}
        self.committed: dict[int, bytes] = {}
        self.committed_index = 0
        self.committed_term = 0
        # The term of the first node that was seen to have it committed.
        self._committed_in: dict[int, int] = {}
        self.applied: dict[int, _Applied] = {}
        self.acknowledged: list[tuple[int, bytes]] = []
        # The newest entry that some client knows of: what begins now comes after it.
        self.shown_index = 0
        self.model = Model()
        self._unseen: dict[int, list[Answer]] = {}
        self._entries: dict[bytes, bytes] = {}
        self._terms_before: dict[bytes, int | None] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self.memberships = 0
        self._memberships: dict[int, Membership] = {}
        self._revisions: dict[tuple[str, str], bytes] = {}

    # Raft.

    def restarted(self, core: RaftCore, disk: SimulatedDisk, machine: LedgerMachine) -> None:
        """A node that begins again may know less of what is committed, but not of terms it has settled."""
        _, term = self._seen.get(core.node_id, (0, 0))
        self._seen[core.node_id] = (0, term)
        self._evidence.check_restarted(core)
        self.check_entries(core, list(disk.raft_rows.scan(b"e", b"f")))
        applied = self.applied.get(machine.applied_index)
        if applied is not None and applied.state != _state_of(machine):
            raise Violation(f"{core.node_id} came back with another state at {machine.applied_index}")
        self._learn_unseen(core, machine.applied_index)

    def _learn_unseen(self, core: RaftCore, applied_index: int) -> None:
        """A write that killed its node may be on the disk all the same; nobody saw that entry applied."""
        first = max(self.model.index + 1, core.log.first_index)
        if first <= applied_index:
            records = core.log.records(
                first, last=applied_index, count_max=applied_index, size_bytes_max=sys.maxsize
            )
            for index, each in enumerate(records, first):
                if kind_of(each) is Kind.REGULAR:
                    commands = decode_group(payload_of(each))
                    self._unseen[index] = self.model.apply(index, commands)

    def lost_disk(self, node_id: str) -> None:
        """Who comes back is another server, which has seen nothing."""
        self._seen.pop(node_id, None)

    def check_installed(self, core: RaftCore, snapshot: Snapshot) -> None:
        """F4 and F5: a snapshot takes nothing back, and nothing away that the log holds."""
        if snapshot.index <= core.commit_index or snapshot.index > self.committed_index:
            raise Violation(
                f"{core.node_id} installs a snapshot of entry {snapshot.index}; it has committed"
                f" {core.commit_index}, the cluster {self.committed_index}"
            )
        if core.log.term_at(snapshot.index) == snapshot.term:
            raise Violation(f"{core.node_id} installs a snapshot of entry {snapshot.index}, which it holds")

    def check(self, core: RaftCore) -> None:
        """After each step of one core."""
        seen = self._seen.get(core.node_id, (0, 0))
        if seen == (core.commit_index, core.term) and not core.leads:
            return
        commit_index, term = seen
        if core.term < term:
            raise Violation(f"{core.node_id} went back from term {term} to {core.term}")
        if core.commit_index < commit_index:
            raise Violation(f"{core.node_id} uncommitted {commit_index} down to {core.commit_index}")
        if core.leads and core.term not in self.leaders:
            self.leaders[core.term] = core.node_id
            self._evidence.check_elected(core)
            self._check_leader(core)
        elif core.leads and self.leaders[core.term] != core.node_id:
            raise Violation(f"{core.node_id} and {self.leaders[core.term]} both lead term {core.term}")
        if core.leads:
            self._evidence.check_leader(core)
            if core.commit_index > commit_index and core.log.term_at(core.commit_index) != core.term:
                raise Violation(f"{core.node_id} commits entry {core.commit_index} of an older term")
        self._check_committed(core, commit_index + 1)
        self._seen[core.node_id] = (core.commit_index, core.term)

    def check_entries(self, core: RaftCore, rows: Sequence[Row]) -> None:
        """Log matching: one (index, term), one entry, and the same entry before it; by induction one past."""
        if self.committed_index:
            self._evidence.check_safe(self.committed_index, self.committed_term)
        for key, record in rows:
            if not key.startswith(b"e"):
                continue
            index = int.from_bytes(key[1:9], "big")
            if core.leads and kind_of(record) is Kind.MEMBERSHIP:
                self._check_change(core, index)
            if self._entries.setdefault(key, record) != record:
                raise Violation(f"{core.node_id} has another entry {index} of the same term")
            term_before = core.log.term_at(index - 1)
            if term_before is None:
                continue
            if self._terms_before.setdefault(key, term_before) != term_before:
                raise Violation(f"{core.node_id} has another past before entry {index}")

    def _check_change(self, core: RaftCore, index: int) -> None:
        """F9: a leader changes the membership once the last change and an entry of its term are committed;
        the first membership there is changes nobody's vote."""
        before = core.log.memberships.at(index - 1)
        if before is None:
            return
        if before.index > core.commit_index or core.log.term_at(core.commit_index) != core.term:
            raise Violation(f"{core.node_id} changes the membership in entry {index} too early")

    def _check_leader(self, core: RaftCore) -> None:
        """Leader completeness: it has every entry that was committed in an earlier term. The last votes of a
        term may arrive when a later one has long had its leader; then it may lack what that one committed."""
        required = self.committed_index
        while required and self._committed_in[required] >= core.term:
            required -= 1
        if core.log.last_index < required:
            raise Violation(
                f"{core.node_id} leads term {core.term} with {core.log.last_index} entries;"
                f" {required} were committed before"
            )
        first = max(core.log.first_index, required - _ENTRIES_OF_A_LEADER_CHECKED_MAX)
        self._check_same(core, first, required, f"leads term {core.term}, but")

    def _check_committed(self, core: RaftCore, first: int) -> None:
        """State machine safety, before apply: a committed index has one record, for ever, everywhere."""
        first = max(first, core.log.first_index)
        if first <= core.commit_index:
            self._check_same(core, first, core.commit_index, "committed and")
            if core.commit_index > self.committed_index:
                for index in range(self.committed_index + 1, core.commit_index + 1):
                    self._committed_in[index] = core.term
                self.committed_index = core.commit_index
                self.committed_term = core.log.term_at(core.commit_index) or 0
                self._evidence.check_safe(self.committed_index, self.committed_term)

    def _check_same(self, core: RaftCore, first: int, last: int, what: str) -> None:
        if first > last:
            return
        records = core.log.records(first, last=last, count_max=last, size_bytes_max=1 << 30)
        for index, record in enumerate(records, first):
            if index not in self.committed:
                self.committed[index] = record
                if kind_of(record) is Kind.MEMBERSHIP:
                    self._check_membership(index, membership.decode(payload_of(record)))
            elif self.committed[index] != record:
                raise Violation(f"{core.node_id} {what} has another entry {index} than was committed")

    def _check_membership(self, index: int, new: Membership) -> None:
        """Thesis section 4.1: one server at a time; and an id that was removed is never used again.

        Indexes do not come in order: the first node that is seen to have committed an entry may have begun
        behind it, with a snapshot.
        """
        self._memberships[index] = new
        self.memberships += 1
        indexes = sorted(self._memberships)
        place = indexes.index(index)
        for earlier, later in pairwise(indexes[max(place - 1, 0) : place + 2]):
            if all(between in self.committed for between in range(earlier, later)):
                _check_one_change(later, self._memberships[earlier], self._memberships[later])

    def check_applied(
        self,
        node_id: str,
        index: int,
        payload: bytes,
        outcomes: list[Outcome],
        written: bytes,
        machine: LedgerMachine,
    ) -> None:
        """Every replica applies the same entry at an index, answers the same and writes the same bytes."""
        self._evidence.check_applied(node_id, index)
        found = _Applied(payload, written, outcomes, _state_of(machine))
        known = self.applied.get(index)
        if known is None:
            self.applied[index] = found
            self._check_outcomes(index, decode_group(payload), outcomes)
        elif known != found:
            what = next(name for name in found._fields if getattr(known, name) != getattr(found, name))
            raise Violation(f"{node_id} applied entry {index} with another {what}")

    def _check_outcomes(self, index: int, commands: Sequence[Command], outcomes: Sequence[Outcome]) -> None:
        expected = self._unseen.pop(index, None)
        if expected is None:
            expected = self.model.apply(index, commands)
        for command, outcome, wanted in zip(commands, outcomes, expected, strict=True):
            if _answer(outcome) != wanted:
                raise Violation(f"entry {index}: {outcome}, but the model says {wanted}")
            if isinstance(command, DropLedger) and isinstance(outcome, LedgerChanged):
                # A ledger that is made again under the name knows nothing of the former one's keys.
                self._revisions = {key: tx for key, tx in self._revisions.items() if key[0] != command.ledger}
            if isinstance(command, Transact) and command.idempotency_key and isinstance(outcome, Committed):
                key = command.ledger, command.idempotency_key
                if self._revisions.setdefault(key, outcome.tx) != outcome.tx:
                    raise Violation(f"entry {index}: idempotency key {key} made a second revision")

    # Clients.

    def check_acknowledged(self, index: int, payload: bytes, floor: int, outcomes: object) -> None:
        """What a proposer is told is what was applied where his entry is, after all he could know of."""
        applied = self.applied.get(index)
        if applied is None or applied.payload != payload:
            raise Violation(f"entry {index} was acknowledged to the proposer of another one")
        if applied.outcomes != outcomes:
            raise Violation(f"the proposer of entry {index} was told {outcomes}")
        if index <= floor:
            raise Violation(f"entry {index} was acknowledged, but begun after entry {floor} was known")
        self.acknowledged.append((index, payload))
        self.shown_index = max(self.shown_index, index)

    def check_read(self, place: Place, index: int, floor: int, shown: Shown | None) -> None:
        """A strong read is of one applied index, not before what was known when it began."""
        if index < floor:
            raise Violation(f"a read of {place} shows entry {index}; entry {floor} was known before it began")
        expected = self.model.shown(place, index)
        if shown != expected:
            raise Violation(f"a read of {place} at {index} shows {shown}, but the model says {expected}")
        self.shown_index = max(self.shown_index, index)

    # The end.

    def check_end(self, cores: Sequence[RaftCore], disks: Sequence[SimulatedDisk]) -> None:
        """Once all is healed: the same rows everywhere, and everything that was acknowledged."""
        first = _rows_of_a_start(disks[0])
        for core, disk in zip(cores, disks, strict=True):
            if _rows_of_a_start(disk) != first:
                raise Violation(f"{core.node_id} ends with other rows than {cores[0].node_id}")
            if core.applied_index < self.shown_index:
                raise Violation(f"{core.node_id} never applied entry {self.shown_index}, which was shown")
        for index, payload in self.acknowledged:
            if self.applied[index].payload != payload:
                raise Violation(f"entry {index} was acknowledged and is lost")


def _rows_of_a_start(disk: SimulatedDisk) -> dict[bytes, bytes]:
    """All rows, once what the disk had not yet of the state maps is made again and written. How far they were
    written before is each node's own affair."""
    try:
        LedgerMachine(disk).write_back()
    except InvariantBroken as error:
        raise Violation(f"a node would not start from what it ends with: {error}") from error
    written = keys.state_written(0)[:1]
    return {key: row for key, row in disk.scan(*keys.EVERYTHING) if not key.startswith(written)}


def _answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, Committed):
        return Answer("committed", outcome.seq, outcome.versions, outcome.repeated)
    if isinstance(outcome, LedgerChanged):
        return Answer("created" if outcome.created else "unchanged")
    return Answer(outcome.reason)


def _state_of(machine: LedgerMachine) -> State:
    """What the state machine keeps in memory: of each ledger the journal's end and the tables."""
    return [
        (
            name,
            state.row,
            state.end_row(),
            state.last_at,
            {each.id: (each.active, each.last_seq) for each in state.tables.values()},
        )
        for name, state in sorted(machine.ledgers.items())
    ]


def _check_one_change(index: int, old: Membership, new: Membership) -> None:
    changed = {each for each in old.members if each not in new.members}
    changed |= {each for each in new.members if each not in old.members}
    if len({each.id for each in changed}) != 1 or len(old.voter_ids ^ new.voter_ids) > 1:
        raise Violation(f"membership entry {index} changes {sorted(each.id for each in changed)} at once")
    gone = set(old.retired) | (old.ids - new.ids)
    if not gone <= set(new.retired) or new.ids & gone:
        raise Violation(f"membership entry {index} forgets whose id is not to be used again")
