"""What stands behind a promise: looked up on the disks, as they would be found after a power cut.

Two invariants of Raft's proof (thesis section 3.6.3 and appendix B) that break long before their
consequences show: a message promises only what is on its sender's disk, and what is committed is on enough
disks that nobody without it can be elected.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from chaos.simulation.disk import OrderedRows, SimulatedDisk
from chaos.simulation.violation import Violation
from consensus.log import entry_key
from consensus.messages import AppendResponse, Message, PreVote, PreVoteResponse, RequestVote, VoteResponse
from consensus.raft_core import RaftCore

# The rows as consensus/log.py lays them out, read here once more and by themselves.
_BOUNDS = struct.Struct(">IBQQQ")
_TERM = struct.Struct(">IQ")


class _LogEnd(NamedTuple):
    """Compared as votes compare logs (thesis section 3.6.1)."""

    term: int
    index: int


class Evidence:
    """What one history's disks and messages have shown."""

    def __init__(self, disks: Mapping[str, SimulatedDisk]) -> None:
        self._disks = disks
        self._votes: dict[tuple[str, int], str] = {}
        self._matched: dict[tuple[str, int, str], int] = {}

    # Messages.

    def check_message(self, source: str, target: str, message: Message) -> None:
        """Raises Violation when a message leaves whose term, vote or entries are not on the sender's disk, or
        that is a second vote in one term."""
        if isinstance(message, PreVote | PreVoteResponse):
            return  # They promise nothing.
        rows = self._disks[source].durable_raft_rows
        term, voted_for = _hard_state(rows)
        if message.term > term:
            raise Violation(f"{source} speaks of term {message.term}; its disk of term {term}")
        if isinstance(message, RequestVote):
            self._check_vote(source, message.term, source, term, voted_for)
        elif isinstance(message, VoteResponse) and message.granted:
            self._check_vote(source, message.term, target, term, voted_for)
        elif isinstance(message, AppendResponse) and message.accepted and message.term == term:
            last_index = _log_end(rows).index
            if message.log_index > last_index:
                raise Violation(f"{source} acknowledges {message.log_index}; its disk ends at {last_index}")

    def _check_vote(self, voter: str, term: int, candidate: str, disk_term: int, disk_vote: str) -> None:
        known = self._votes.setdefault((voter, term), candidate)
        if known != candidate:
            raise Violation(f"{voter} votes for {known} and for {candidate} in term {term}")
        if term == disk_term and disk_vote != candidate:
            raise Violation(f"{voter} votes for {candidate}; its disk says {disk_vote or 'nobody'}")

    def check_elected(self, leader: str, term: int) -> None:
        """Raises Violation when no majority voted for the new leader of a term (thesis section 3.4)."""
        voters = [node_id for node_id in self._disks if self._votes.get((node_id, term)) == leader]
        if len(self._disks) > 1 and 2 * len(voters) <= len(self._disks):
            raise Violation(f"{leader} leads term {term} with no other votes than of {', '.join(voters)}")

    def check_restarted(self, core: RaftCore) -> None:
        """Raises Violation when a node that starts does not know whom it voted for (thesis section 3.8)."""
        vote = self._votes.get((core.node_id, core.term))
        if vote is not None and core.log.voted_for != vote:
            raise Violation(f"{core.node_id} has forgotten that it voted for {vote} in term {core.term}")

    def contested_terms(self) -> int:
        """In how many terms two members got a vote."""
        candidates: dict[int, set[str]] = {}
        for (_, term), candidate in self._votes.items():
            candidates.setdefault(term, set()).add(candidate)
        return sum(len(each) > 1 for each in candidates.values())

    # Commits.

    def check_leader(self, core: RaftCore) -> None:
        """Raises Violation when a leader believes of a follower that it holds what it does not hold (thesis
        section 3.5), unless a later leader has taken it away."""
        for peer_id in self._disks:
            match_index = core.match_index(peer_id) or 0
            place = core.node_id, core.term, peer_id
            if match_index <= self._matched.get(place, 1):
                continue
            self._matched[place] = match_index
            rows, term = self._disks[peer_id].durable_raft_rows, core.log.term_at(match_index)
            if term is not None and _hard_state(rows)[0] <= core.term and not _holds(rows, match_index, term):
                raise Violation(f"{core.node_id} believes that {peer_id} holds entry {match_index} of term {term}")

    def check_applied(self, node_id: str, index: int) -> None:
        """Raises Violation when a node applies what is not on its own disk: a restart would find a state
        machine that is ahead of the log."""
        last_index = _log_end(self._disks[node_id].durable_raft_rows).index
        if index > last_index:
            raise Violation(f"{node_id} applies entry {index}; its disk ends at {last_index}")

    def check_safe(self, index: int, term: int) -> None:
        """Raises Violation when somebody whose log lacks the committed entry (index, term) could be elected.

        By Log Matching, who holds this entry holds all before it. What this catches is what figure 3.7 of the
        thesis shows, as soon as it is possible. Term 0 is the entry that every log begins with.
        """
        if term == 0:
            return
        rows = {node_id: disk.durable_raft_rows for node_id, disk in self._disks.items()}
        ends = {node_id: _log_end(each) for node_id, each in rows.items()}
        for node_id, end in ends.items():
            if _holds(rows[node_id], index, term):
                continue
            voters = [other for other in ends if end >= ends[other]]
            if 2 * len(voters) > len(ends):
                raise Violation(
                    f"entry {index} of term {term} is committed, but {node_id}, which lacks it, could be"
                    f" elected by {', '.join(voters)}"
                )


def _hard_state(rows: OrderedRows) -> tuple[int, str]:
    """Term and vote on a disk; an empty vote is nobody."""
    row = rows.get(b"h")
    if row is None:
        return 0, ""
    _, term = _TERM.unpack_from(row)
    return term, row[_TERM.size :].decode()


def _log_end(rows: OrderedRows) -> _LogEnd:
    row = rows.get(b"b")
    if row is None:
        return _LogEnd(0, 0)
    _, _, _, last_index, last_term = _BOUNDS.unpack(row)
    return _LogEnd(last_term, last_index)


def _holds(rows: OrderedRows, index: int, term: int) -> bool:
    """Whether a log holds an entry, or has deleted it, which it does only with committed ones."""
    row = rows.get(b"b")
    if row is None:
        return False
    _, _, first_index, _, _ = _BOUNDS.unpack(row)
    return index < first_index or rows.get(entry_key(index, term)) is not None
