"""A leader's followers: what to send to each, and what their answers mean."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from consensus import limits
from consensus.budget import Budget
from consensus.errors import InvariantBroken
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Append, AppendResponse, SnapshotResponse
from consensus.progress import Progress
from consensus.snapshot_streams import SnapshotStreams
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

    def __init__(
        self,
        node_id: str,
        log: DurableLog,
        outbox: Outbox,
        *,
        clock: Callable[[], float],
        budget: Budget,
        streams: SnapshotStreams | None,
        promise_us: int,
    ) -> None:
        self._node_id = node_id
        self._log = log
        self._outbox = outbox
        self._clock = clock
        self._budget = budget
        self._streams = streams
        self._promise_us = promise_us
        self._progress: dict[str, Progress] = {}
        self._denials: Counter[str] = Counter()

    def __getitem__(self, peer_id: str) -> Progress:
        return self._progress[peer_id]

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._progress

    def __iter__(self) -> Iterator[str]:
        return iter(self._progress)

    def reset(self) -> None:
        """A new leadership knows nothing, and an old one takes no snapshot along."""
        self._progress.clear()
        self._denials.clear()
        if self._streams is not None:
            self._streams.release()

    def add(self, peer_id: str) -> None:
        """Begins to probe at the end of the log (thesis section 3.5); nothing is known of this follower."""
        self._progress[peer_id] = Progress(self._log.last_index + 1, added_at=self._clock())
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

    def quorum_promised(self, membership: Membership, read_round: int) -> bool:
        """Whether a majority of the voters has done so with a promise that a lease may rest on (lease.py)."""
        promised = {
            each for each, progress in self._progress.items() if progress.promised_round >= read_round
        }
        return membership.has_quorum(promised | {self._node_id})

    def caught_up(self, peer_id: str) -> bool:
        """Whether this follower would not hold up commits if it got a vote (thesis section 4.2.1)."""
        progress = self._progress[peer_id]
        lag = self._log.last_index - progress.match_index
        return not progress.probing and lag <= limits.CAUGHT_UP_LAG_ENTRIES_MAX

    def any_to_send(self, commit_index: int) -> bool:
        """Whether a follower should be sent something before the next heartbeat."""
        now = self._clock()
        return any(
            self._may_send_entries(each) or each.may_send_commit(commit_index, now) or self._may_stream(each)
            for each in self._progress.values()
        )

    def _may_send_entries(self, progress: Progress) -> bool:
        """To a follower that is far behind, entries go no faster than the budget allows, so that bringing it
        up does not slow down the others' commits."""
        return progress.may_send_entries(self._log.last_index) and (
            not self._is_paced(progress) or self._budget.open()
        )

    def _is_paced(self, progress: Progress) -> bool:
        return progress.behind or progress.next_index < self._log.cached_from

    def pace(self) -> None:
        """To be called with each heartbeat."""
        self._budget.pace(self._log.sizes.end)

    def _may_stream(self, progress: Progress) -> bool:
        return (
            self._streams is not None
            and progress.stream is not None
            and self._streams.may_send(progress.stream)
        )

    def answered(self, peer_id: str, message: AppendResponse) -> int:
        """Takes an answer of the current term; returns the last index the follower is known to hold."""
        progress = self._progress[peer_id]
        progress.heard_at = self._clock()
        # Any answer of this term, a refusal too, says that this node still led when the message was read.
        progress.confirmed_round = max(progress.confirmed_round, message.round)
        if message.promise_us >= self._promise_us:
            progress.promised_round = max(progress.promised_round, message.round)
        if message.accepted:
            self._accepted(progress, message.log_index)
            self._denials[peer_id] = 0
        else:
            if _denies(progress, message):
                self._denied(peer_id)
            if progress.stream is None:
                self._refused(progress, message)
        return progress.match_index

    def _accepted(self, progress: Progress, index: int) -> None:
        if progress.stream is not None:
            if index < self._log.first_index:
                return  # A late answer; the log has nothing to send behind it.
            progress.end_snapshot()
        probed = progress.probing
        progress.accepted(index)
        if probed or progress.behind:
            lag_size_bytes = self._log.sizes.after(progress.match_index)
            progress.behind = lag_size_bytes > (
                limits.CATCH_UP_LAG_SIZE_BYTES_MAX if probed else limits.CATCH_UP_LAG_SIZE_BYTES_MIN
            )
        if progress.match_index + 1 >= self._log.cached_from:
            progress.recovering = False

    def _refused(self, progress: Progress, message: AppendResponse) -> None:
        first_index = self._log.first_index
        if progress.refused(message.log_index, self._candidate(message), first_index + 1):
            return
        if message.log_index <= first_index and self._streams is not None:
            progress.begin_snapshot()

    def snapshot_answered(self, peer_id: str, message: SnapshotResponse) -> None:
        """Takes an answer of the current term. It says nothing about the follower's log (F1)."""
        progress = self._progress[peer_id]
        progress.heard_at = self._clock()
        if progress.stream is not None and progress.stream.digest == message.digest:
            progress.stream.answered(message)

    def snapshot_size(self, digest: bytes) -> int:
        """The size of the snapshot `digest`, if it is the one that is sent; otherwise no bound is known."""
        snapshot = None if self._streams is None else self._streams.snapshot
        return snapshot.size_bytes if snapshot is not None and snapshot.digest == digest else 1 << 63

    def advance_snapshots(self, applied_index: int, membership_at: Callable[[int], bytes]) -> None:
        """Has a snapshot taken while a follower that answers needs one, and frees it afterwards."""
        if self._streams is None:
            return
        if any(each.stream is not None and self._answers(each) for each in self._progress.values()):
            self._streams.advance(applied_index, membership_at)
        else:
            self._streams.release()

    def _answers(self, progress: Progress) -> bool:
        return self._clock() - progress.heard_at < limits.SNAPSHOT_ABANDONED_S

    def pinned_index(self, last: int) -> int:
        """The log is kept from here on, at most `last`, for followers that are being brought up: a snapshot
        is of use only while the log goes on from its end, until the follower has arrived at the log's."""
        pins = [
            each.match_index for each in self._progress.values() if each.recovering and self._answers(each)
        ]
        if self._streams is not None and self._streams.pinned_index is not None:
            pins.append(self._streams.pinned_index)
        return min(pins, default=last)

    def needed_index(self, last: int) -> int:
        """The log is needed from here on, at most `last`, by the followers that answer, or did just now."""
        since = self._clock() - limits.LOG_UNWANTED_HELD_S
        awaited = [
            each.match_index for each in self._progress.values() if max(each.heard_at, each.added_at) > since
        ]
        return min([*awaited, self.pinned_index(last), last])

    def _candidate(self, message: AppendResponse) -> int:
        """F10. Where to try next (thesis section 3.5): behind the last own entry of the conflicting term, or,
        without such an entry, where the follower's entries of that term begin. One step a term."""
        if message.conflict_term:
            last_index = self._log.last_index_of_term(message.conflict_term)
            if last_index is not None:
                return last_index + 1
        return message.conflict_index

    def send(self, standing: Standing, peer_ids: Iterable[str], *, heartbeat: bool) -> None:
        """Puts into the outbox what these followers should get now; with `heartbeat`, at least one message.

        A new commit index goes with the next entries, or in a message of its own where none followed lately:
        under load such messages, each with an answer, were two fifths of all traffic.
        """
        for peer_id in peer_ids:
            self._send(peer_id, standing, heartbeat=heartbeat)

    def _send(self, peer_id: str, standing: Standing, *, heartbeat: bool) -> None:
        progress = self._progress[peer_id]
        if self._streams is not None:
            if progress.stream is None and progress.next_index <= self._log.first_index:
                progress.begin_snapshot()
            if progress.stream is not None:
                self._send_snapshot(peer_id, progress, standing, heartbeat=heartbeat)
                return
        # Evaluated again after each batch: the window closes, the budget is spent, or the log ends.
        spent = False
        while self._may_send_entries(progress):
            records = self._log.records(
                progress.next_index,
                count_max=limits.BATCH_ENTRIES_MAX,
                size_bytes_max=limits.BATCH_SIZE_BYTES_MAX,
            )
            paced = self._is_paced(progress)
            self._append(peer_id, standing, records)
            if paced:
                self._budget.spend(sum(map(len, records)))
                spent = True
            heartbeat = False
        if spent:
            self._serve_last(peer_id)
        if heartbeat or progress.may_send_commit(standing.commit_index, self._clock()):
            self._append(peer_id, standing, [])

    def _send_snapshot(
        self, peer_id: str, progress: Progress, standing: Standing, *, heartbeat: bool
    ) -> None:
        """Chunks, and heartbeats at the snapshot's last entry, which is there once it is installed."""
        if self._streams is None or progress.stream is None:
            return
        if heartbeat:
            snapshot = self._streams.snapshot
            usable = snapshot is not None and self._log.term_at(snapshot.index) is not None
            progress.next_index = 1 + (
                snapshot.index if snapshot is not None and usable else self._log.first_index
            )
            self._append(peer_id, standing, [])
        if self._streams.send(peer_id, progress.stream, standing.term, heartbeat=heartbeat):
            self._serve_last(peer_id)

    def _serve_last(self, peer_id: str) -> None:
        """Whoever used the budget is sent to after the others from now on. Otherwise one follower that takes
        everything and never arrives, because its disk is full or broken, would keep the others from it."""
        self._progress[peer_id] = self._progress.pop(peer_id)

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
        progress.sent(last_index, sum(map(len, records)), message.commit_index, self._clock())

    def _denied(self, peer_id: str) -> None:
        """Once, that can be an answer that came late; again and again, its disk is not what it was."""
        self._denials[peer_id] += 1
        if self._denials[peer_id] == limits.DENIALS_BEFORE_REPORT:
            logger.error("%s lacks entries that it acknowledged: is its disk an old copy?", peer_id)

    def has_forgotten(self, peer_id: str) -> bool:
        """Whether this follower lacks what it acknowledged to this leader."""
        return self._denials[peer_id] >= limits.DENIALS_BEFORE_REPORT


def _denies(progress: Progress, refusal: AppendResponse) -> bool:
    """Whether a follower lacks what it acknowledged: it has another entry there, or its log ends before."""
    log_ends_before = not refusal.conflict_term and refusal.conflict_index <= progress.match_index
    return refusal.log_index <= progress.match_index or log_ends_before
