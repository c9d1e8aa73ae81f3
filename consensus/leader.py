"""A leader's followers: what to send to each, and what their answers mean."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consensus import limits
from consensus.errors import InvariantBroken
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Append, AppendResponse
from consensus.progress import Progress
from consensus.stock import Outbox

logger = logging.getLogger(__name__)


class Standing(NamedTuple):
    """What every message of one tick says of the leader; fields as in Append."""

    term: int
    commit_index: int
    read_round: int
    retain_index: int


class Followers:
    """The progress of everybody who gets the log, in one leadership. Empty before the first `reset`."""

    def __init__(self, node_id: str, log: DurableLog, outbox: Outbox) -> None:
        self._node_id = node_id
        self._log = log
        self._outbox = outbox
        self._progress: dict[str, Progress] = {}
        self._denials: Counter[str] = Counter()

    def __getitem__(self, peer_id: str) -> Progress:
        return self._progress[peer_id]

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._progress

    def __iter__(self) -> Iterator[str]:
        return iter(self._progress)

    def reset(self) -> None:
        """A new leadership knows nothing."""
        self._progress.clear()
        self._denials.clear()

    def add(self, peer_id: str) -> None:
        """Begins to probe at the end of the log (thesis section 3.5); nothing is known of this follower."""
        self._progress[peer_id] = Progress(self._log.last_index + 1)
        self._denials.pop(peer_id, None)

    def drop(self, peer_id: str) -> None:
        del self._progress[peer_id]

    def match_index_min(self, own_index: int) -> int:
        """The lowest index that all members hold; 0 while one of them has not answered this leadership."""
        return min((each.match_index for each in self._progress.values()), default=own_index)

    def quorum_index(self, membership: Membership) -> int:
        """The last entry that a majority of the voters holds on disk; this node counts if it is one."""
        return membership.reached_by_quorum(
            lambda voter_id: (
                self._log.synced_index if voter_id == self._node_id else self._progress[voter_id].match_index
            )
        )

    def quorum_confirmed(self, membership: Membership, read_round: int) -> bool:
        """Whether a majority of the voters has answered a message of `read_round` or a later one; this node,
        if it is a voter, has."""
        confirmed = {
            each for each, progress in self._progress.items() if progress.confirmed_round >= read_round
        }
        return membership.has_quorum(confirmed | {self._node_id})

    def caught_up(self, peer_id: str) -> bool:
        """Whether this follower would not hold up commits if it got a vote (thesis section 4.2.1)."""
        progress = self._progress[peer_id]
        lag = self._log.last_index - progress.match_index
        return not progress.probing and lag <= limits.CAUGHT_UP_LAG_ENTRIES_MAX

    def any_to_send(self, commit_index: int) -> bool:
        """Whether a follower should be sent something before the next heartbeat."""
        last_index = self._log.last_index
        return any(
            each.may_send_entries(last_index) or each.may_send_commit(commit_index)
            for each in self._progress.values()
        )

    def answered(self, peer_id: str, message: AppendResponse) -> int:
        """Takes an answer of the current term; returns the last index the follower is known to hold."""
        progress = self._progress[peer_id]
        # Any answer of this term, a refusal too, says that this node still led when the message was read.
        progress.confirmed_round = max(progress.confirmed_round, message.round)
        if message.accepted:
            progress.accepted(message.log_index)
            self._denials[peer_id] = 0
        else:
            floor = self._log.first_index + 1
            if not progress.refused(message.log_index, self._candidate(message), floor):
                self._denied(peer_id)
        return progress.match_index

    def _candidate(self, message: AppendResponse) -> int:
        """F10. Where to try next (thesis section 3.5): behind the last own entry of the conflicting term, or,
        without such an entry, where the follower's entries of that term begin. One step a term."""
        if message.conflict_term:
            last_index = self._log.last_index_of_term(message.conflict_term)
            if last_index is not None:
                return last_index + 1
        return message.conflict_index

    def send(self, peer_id: str, standing: Standing, *, heartbeat: bool) -> None:
        """Puts into the outbox what this follower should get now; with `heartbeat`, at least one message."""
        progress = self._progress[peer_id]
        # Evaluated again after each batch: the window closes, or the log ends.
        while progress.may_send_entries(self._log.last_index):
            records = self._log.records(
                progress.next_index,
                count_max=limits.BATCH_ENTRIES_MAX,
                size_bytes_max=limits.BATCH_SIZE_BYTES_MAX,
            )
            self._append(peer_id, standing, records)
            heartbeat = False
        if heartbeat or progress.may_send_commit(standing.commit_index):
            self._append(peer_id, standing, [])

    def _append(self, peer_id: str, standing: Standing, records: Sequence[bytes]) -> None:
        progress = self._progress[peer_id]
        prev_index = progress.next_index - 1
        prev_term = self._log.term_at(prev_index)
        if prev_term is None:
            raise InvariantBroken(f"the entry before {progress.next_index}, for {peer_id}, is deleted")
        last_index = prev_index + len(records)
        message = Append(
            term=standing.term,
            prev_index=prev_index,
            prev_term=prev_term,
            entries=tuple(records),
            commit_index=min(standing.commit_index, last_index),
            round=standing.read_round,
            retain_index=standing.retain_index,
        )
        self._outbox.put(peer_id, message)
        progress.sent(last_index, sum(map(len, records)), message.commit_index)

    def _denied(self, peer_id: str) -> None:
        """The follower lacks what it acknowledged, or what it held when it was deleted. Once, that can be an
        answer that came late; heartbeat after heartbeat, it has lost its disk."""
        self._denials[peer_id] += 1
        if self._denials[peer_id] == limits.DENIALS_BEFORE_REPORT:
            logger.error("%s lacks entries that it acknowledged; it cannot be helped from the log", peer_id)
