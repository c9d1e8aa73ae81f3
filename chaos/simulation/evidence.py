"""What stands behind a promise: looked up on the disks, as they would be found after a power cut.

Invariants of Raft's proof (thesis section 3.6.3 and appendix B) that break long before their consequences
show: a message promises only what is on its sender's disk, a server votes once a term, a leader has the votes
of a majority, what a leader believes of a follower's log is so, and what is committed is on enough disks that
nobody without it can be elected. A server is an id and an incarnation: who lost its disk is another one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, Protocol

from chaos.simulation.disk import OrderedRows, SimulatedDisk
from chaos.simulation.violation import Violation
from consensus import membership_history
from consensus.log_rows import entry_key
from consensus.membership import Membership, decode
from consensus.messages import (
    AppendResponse,
    Contacts,
    Message,
    PreVote,
    PreVoteResponse,
    RequestVote,
    VoteResponse,
)
from consensus.raft_core import RaftCore
from consensus.record import Kind, kind_of, payload_of

# The rows as consensus/log.py lays them out, read here once more and by themselves.
_BOUNDS = struct.Struct(">IBQQQ")
_TERM = struct.Struct(">IQ")
_CHECKSUM_SIZE_BYTES = 4
_ROWS_PARSED_MAX = 256

_PROMISE_NOTHING = (PreVote, PreVoteResponse, Contacts)


class Server(Protocol):
    """A node, as far as it is looked into."""

    id: str
    disk: SimulatedDisk
    core: RaftCore | None
    bootstrap: Membership

    @property
    def incarnation(self) -> bytes: ...


class _LogEnd(NamedTuple):
    """Compared as votes compare logs (thesis section 3.6.1)."""

    last_term: int
    last_index: int


class Evidence:
    """What one history's disks and messages have shown."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self._servers = servers
        self._votes: dict[tuple[str, bytes, int], str] = {}
        self._matched: dict[tuple[str, int, str], int] = {}

    def _rows(self, node_id: str) -> OrderedRows:
        return self._servers[node_id].disk.durable_raft_rows

    # Messages and votes.

    def check_message(self, source: str, target: str, message: Message) -> None:
        """Raises Violation when a message leaves whose term, vote or entries are not on the sender's disk, or
        that is a second vote in one term."""
        if isinstance(message, _PROMISE_NOTHING):
            return
        rows = self._rows(source)
        term, voted_for = _hard_state(rows)
        if message.term > term:
            raise Violation(f"{source} speaks of term {message.term}; its disk of term {term}")
        if isinstance(message, RequestVote):
            self._check_vote(source, message.term, source, term, voted_for)
        elif isinstance(message, VoteResponse) and message.granted:
            self._check_vote(source, message.term, target, term, voted_for)
        elif isinstance(message, AppendResponse) and message.accepted and message.term == term:
            last_index = _log_end(rows).last_index
            if message.log_index > last_index:
                raise Violation(f"{source} acknowledges {message.log_index}; its disk ends at {last_index}")

    def _check_vote(self, voter: str, term: int, candidate: str, disk_term: int, disk_vote: str) -> None:
        known = self._votes.setdefault((voter, self._servers[voter].incarnation, term), candidate)
        if known != candidate:
            raise Violation(f"{voter} votes for {known} and for {candidate} in term {term}")
        if term == disk_term and disk_vote != candidate:
            raise Violation(f"{voter} votes for {candidate}; its disk says {disk_vote or 'nobody'}")

    def check_elected(self, core: RaftCore) -> None:
        """Raises Violation when a new leader has not the votes of a majority of its voters, each given by the
        server that the membership names; without a membership in the log, of all (thesis section 3.4)."""
        membership = core.membership
        voters = {
            each.id
            for each in membership.voters
            for incarnation in (each.incarnation or self._servers[each.id].incarnation,)
            if self._votes.get((each.id, incarnation, core.term)) == core.node_id
        }
        # Then the first membership is the leader's own entry, right behind its no-op.
        alone = membership.voter_ids == {core.node_id}
        first = core.log.term_at(core.membership_index) == core.term
        if alone or (membership.voter_ids <= voters if first else membership.has_quorum(voters)):
            return
        raise Violation(
            f"{core.node_id} leads term {core.term} with the votes of {', '.join(sorted(voters))}"
        )

    def check_restarted(self, core: RaftCore) -> None:
        """Raises Violation when a node that starts does not know whom it voted for (thesis section 3.8)."""
        vote = self._votes.get((core.node_id, core.incarnation, core.term))
        if vote is not None and core.log.voted_for != vote:
            raise Violation(f"{core.node_id} has forgotten that it voted for {vote} in term {core.term}")

    def contested_terms(self) -> int:
        """In how many terms two members got a vote."""
        candidates: dict[int, set[str]] = {}
        for (_, _, term), candidate in self._votes.items():
            candidates.setdefault(term, set()).add(candidate)
        return sum(len(each) > 1 for each in candidates.values())

    # Entries.

    def check_leader(self, core: RaftCore) -> None:
        """Raises Violation when a leader believes of a member that it holds what it does not hold (thesis
        section 3.5), unless a later leader has taken it away, or its disk is lost."""
        for member in core.membership.members:
            if member.id == core.node_id:
                continue
            match_index = core.match_index(member.id) or 0
            place = core.node_id, core.term, member.id
            if match_index <= self._matched.get(place, 1):
                continue
            self._matched[place] = match_index
            rows, term = self._rows(member.id), core.log.term_at(match_index)
            if member.incarnation not in (b"", self._servers[member.id].incarnation) or term is None:
                continue
            if _hard_state(rows)[0] <= core.term and not _holds(rows, match_index, term):
                raise Violation(
                    f"{core.node_id} believes that {member.id} holds entry {match_index} of term {term}"
                )

    def check_applied(self, node_id: str, index: int) -> None:
        """Raises Violation when a node applies what is not on its own disk: a restart would find a state
        machine that is ahead of the log."""
        last_index = _log_end(self._rows(node_id)).last_index
        if index > last_index:
            raise Violation(f"{node_id} applies entry {index}; its disk ends at {last_index}")

    def check_safe(self, index: int, term: int) -> None:
        """Raises Violation when somebody whose log lacks the committed entry (index, term) could be elected,
        by the voters that its own log names.

        By Log Matching, who holds this entry holds all before it. What this catches is what figure 3.7 of the
        thesis shows, as soon as it is possible. Term 0 is the entry that every log begins with.
        """
        if term == 0:
            return
        rows = {node_id: self._rows(node_id) for node_id in self._servers}
        ends: dict[str, _LogEnd] = {}
        lacking = [node_id for node_id in rows if not _holds(rows[node_id], index, term)]
        if lacking:
            ends = {node_id: _log_end(each) for node_id, each in rows.items()}
        for node_id in lacking:
            voters = self._would_elect(node_id, ends)
            if voters:
                raise Violation(
                    f"entry {index} of term {term} is committed, but {node_id}, which lacks it, could be"
                    f" elected by {', '.join(sorted(voters))}"
                )

    def _would_elect(self, node_id: str, ends: Mapping[str, _LogEnd]) -> set[str]:
        """Those who would vote for a node for its log's sake, if they are enough to elect it."""
        membership, named = self._membership(self._servers[node_id])
        voters = {
            each.id
            for each in membership.voters
            if ends[node_id] >= ends[each.id]
            and each.incarnation in (b"", self._servers[each.id].incarnation)
        }
        enough = membership.has_quorum(voters) if named else membership.voter_ids <= voters
        return voters if enough else set()

    def _membership(self, server: Server) -> tuple[Membership, bool]:
        """The latest in a server's log, and whether it is in its log at all."""
        if server.core is not None:
            return server.core.membership, server.core.log.memberships.latest is not None
        rows = server.disk.durable_raft_rows
        for _, record in reversed(rows.between(b"e", b"f")):
            if kind_of(record) is Kind.MEMBERSHIP:
                return decode(payload_of(record)), True
        base = rows.get(b"m")
        if base is not None:
            return membership_history.decode(base[_CHECKSUM_SIZE_BYTES:]).membership, True
        return server.bootstrap, False


def _hard_state(rows: OrderedRows) -> tuple[int, str]:
    """Term and vote on a disk; an empty vote is nobody."""
    row = rows.get(b"h")
    return (0, "") if row is None else _parse_hard_state(row)


@lru_cache(_ROWS_PARSED_MAX)
def _parse_hard_state(row: bytes) -> tuple[int, str]:
    _, term = _TERM.unpack_from(row)
    return term, row[_TERM.size :].decode()


def _log_end(rows: OrderedRows) -> _LogEnd:
    row = rows.get(b"b")
    return _LogEnd(0, 0) if row is None else _parse_bounds(row)[1]


@lru_cache(_ROWS_PARSED_MAX)
def _parse_bounds(row: bytes) -> tuple[int, _LogEnd]:
    """The first index of a log, and its end."""
    _, _, first_index, last_index, last_term = _BOUNDS.unpack(row)
    return first_index, _LogEnd(last_term, last_index)


def _holds(rows: OrderedRows, index: int, term: int) -> bool:
    """Whether a log holds an entry, or has deleted it, which it does only with committed ones."""
    row = rows.get(b"b")
    if row is None:
        return False
    return index < _parse_bounds(row)[0] or rows.get(entry_key(index, term)) is not None
