"""The promises of Raft (Raft thesis figure 3.2), checked on cores while they run."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.config import Role
from consensus.errors import ConsensusError
from consensus.raft_core import RaftCore


class Violation(AssertionError):
    """A promise was broken."""


class Proposal:
    """A completion that remembers."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.index: int | None = None
        self.error: ConsensusError | None = None

    def done(self) -> bool:
        return self.index is not None or self.error is not None

    def set_result(self, result: object) -> None:
        assert isinstance(result, int)
        self.index = result

    def set_exception(self, error: ConsensusError) -> None:
        self.error = error


class Promises:
    """What one history has shown so far."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.leaders: dict[int, str] = {}
        self.committed: dict[int, bytes] = {}
        self.applied: dict[int, bytes] = {}
        self.acknowledged_index = 0
        self._seen: dict[str, tuple[int, int]] = {}
        self._unsettled = 0

    def restarted(self, node_id: str) -> None:
        """A node that begins again may know less of what is committed, but not of terms."""
        _, term = self._seen.get(node_id, (0, 0))
        self._seen[node_id] = (0, term)

    def check(self, core: RaftCore) -> None:
        """After each step of one core."""
        commit_index, term = self._seen.get(core.node_id, (0, 0))
        if core.term < term:
            raise Violation(f"{core.node_id} went back from term {term} to {core.term}")
        if core.commit_index < commit_index:
            raise Violation(f"{core.node_id} uncommitted {commit_index} down to {core.commit_index}")
        if core.role is Role.LEADER and self.leaders.setdefault(core.term, core.node_id) != core.node_id:
            raise Violation(f"{core.node_id} and {self.leaders[core.term]} both lead term {core.term}")
        self._check_committed(core, commit_index + 1)
        self._seen[core.node_id] = (core.commit_index, core.term)
        self.check_acknowledged()

    def _check_committed(self, core: RaftCore, first: int) -> None:
        """Leader completeness and log matching: a committed index has one record, for ever, everywhere."""
        first = max(first, core.log.first_index)
        if first > core.commit_index:
            return
        records = core.log.records(first, last=core.commit_index, count_max=1 << 30, size_bytes_max=1 << 30)
        for index, record in enumerate(records, first):
            if self.committed.setdefault(index, record) != record:
                raise Violation(f"{core.node_id} has another entry {index} than was committed")

    def check_applied(self, index: int, payload: bytes) -> None:
        """State machine safety: no two members apply different entries at one index."""
        if self.applied.setdefault(index, payload) != payload:
            raise Violation(f"{payload!r} applied at {index}, where {self.applied[index]!r} was")

    def check_acknowledged(self) -> None:
        """What a proposer was told is what was applied where he was told."""
        for proposal in self.proposals[self._unsettled :]:
            if proposal.index is not None:
                if self.applied.get(proposal.index) != proposal.payload:
                    raise Violation(f"{proposal.payload!r} was acknowledged at {proposal.index}")
                self.acknowledged_index = max(self.acknowledged_index, proposal.index)
        while self._unsettled < len(self.proposals) and self.proposals[self._unsettled].done():
            self._unsettled += 1

    def check_end(self, cores: Sequence[RaftCore], applied: Sequence[list[tuple[int, bytes]]]) -> None:
        """Once all is healed: everybody applied the same, all that was acknowledged, nothing twice."""
        if any(each != applied[0] for each in applied):
            raise Violation("the members applied different sequences")
        by_index = dict(applied[0])
        payloads = list(by_index.values())
        if len(set(payloads)) != len(payloads):
            raise Violation("a payload was applied twice")
        if any(core.commit_index < self.acknowledged_index for core in cores):
            raise Violation("an acknowledged entry is not committed everywhere")
        for proposal in self.proposals:
            if proposal.index is not None and by_index.get(proposal.index) != proposal.payload:
                raise Violation(f"{proposal.payload!r}, acknowledged at {proposal.index}, is lost")
