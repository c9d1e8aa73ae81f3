"""What a follower does with what a leader sends: the log rules of Raft thesis section 3.5, and what it keeps
of a snapshot (chapter 5)."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from consensus import membership, record
from consensus.errors import InvariantBroken, MalformedMessage
from consensus.log import DurableLog
from consensus.membership import MembershipInvalid
from consensus.messages import Append, InstallSnapshot
from consensus.record import Kind, RecordCorrupt
from consensus.snapshot import Snapshot, SnapshotSink


class Answer(NamedTuple):
    """The part of an AppendResponse that the log decides; fields as there."""

    accepted: bool
    log_index: int
    conflict_index: int = 0
    conflict_term: int = 0


def terms_of(message: Append) -> list[int]:
    """Checks a message against itself and returns its entries' terms. Raises MalformedMessage.

    Every record must carry a good checksum (F12), follow the one before it, and be of a term that the
    sender can have; the commit index must not go beyond what the message shows (F1).
    """
    if message.commit_index > message.prev_index + len(message.entries):
        raise MalformedMessage("the commit index is beyond the entries that the message shows")
    terms: list[int] = []
    term = message.prev_term
    for index, each in enumerate(message.entries, message.prev_index + 1):
        try:
            header = record.check(each)
            if header.kind is Kind.MEMBERSHIP:
                membership.decode(record.payload_of(each))
        except (RecordCorrupt, MembershipInvalid) as error:
            raise MalformedMessage(str(error)) from error
        if header.entry_index != index or not term <= header.entry_term <= message.term:
            raise MalformedMessage(f"a wrong entry in the place of {index}: {header}")
        term = header.entry_term
        terms.append(term)
    if not terms and term > message.term:
        raise MalformedMessage("the previous entry's term is above the message's")
    return terms


def append(log: DurableLog, commit_index: int, message: Append, terms: list[int]) -> Answer:
    """Brings the log in line with a message of the current term's leader; everything is staged only."""
    conflict = _conflict(log, commit_index, message)
    if conflict is not None:
        return conflict
    for offset, term in enumerate(terms):
        index = message.prev_index + 1 + offset
        if index < log.first_index:
            continue  # Deleted because every member has it: committed, hence the same.
        if index <= log.last_index:
            if log.term_at(index) == term:
                continue
            # F2. Only what contradicts the leader goes: same (index, term), same entry and same past (Log
            # Matching, section 3.5). A message sent twice or late must not take back what it once brought.
            if index <= commit_index:
                raise InvariantBroken(f"the leader contradicts entry {index}; {commit_index} is committed")
            log.truncate_from(index)
        log.append(index, term, message.entries[offset])
    return Answer(True, message.prev_index + len(terms))


def _conflict(log: DurableLog, commit_index: int, message: Append) -> Answer | None:
    """The consistency check of section 3.5: is the entry before the new ones here?

    F10. A refusal names the term found and its first index, so that the leader skips a term at a time.
    """
    prev_index = message.prev_index
    if prev_index < log.first_index and prev_index <= commit_index:
        return None  # Deleted after it was committed; a leader has every committed entry (section 3.6.3).
    if prev_index > log.last_index:
        return Answer(False, prev_index, log.last_index + 1, 0)
    term = log.term_at(prev_index)
    if term == message.prev_term:
        return None
    if term is None or prev_index <= commit_index:
        raise InvariantBroken(f"the leader contradicts entry {prev_index}; {commit_index} is committed")
    return Answer(False, prev_index, log.first_index_of_term_at(prev_index), term)


def check_chunk(message: InstallSnapshot) -> None:
    """Checks a chunk against itself and its snapshot. Raises MalformedMessage."""
    snapshot = message.snapshot
    if message.offset + len(message.data) > snapshot.size_bytes or snapshot.index == 0:
        raise MalformedMessage("a chunk beyond the end of its snapshot, or a snapshot of nothing")
    if snapshot.term > message.term:
        raise MalformedMessage("the term of the snapshot is above the message's")
    if zlib.crc32(message.data) != message.checksum:
        raise MalformedMessage(f"the checksum of the chunk at {message.offset} is wrong")


def held_of(log: DurableLog, commit_index: int, snapshot: Snapshot) -> int | None:
    """Up to where this log is the leader's, if it does not need `snapshot`; None when it does.

    F5. What is committed here is committed for ever; an older snapshot would take it back. F4. With the
    snapshot's last entry the log has all before it (Log Matching, thesis section 3.5), and what is behind it
    may have been acknowledged: it is kept.
    """
    if snapshot.index <= commit_index:
        return commit_index
    return snapshot.index if log.term_at(snapshot.index) == snapshot.term else None


class Kept(NamedTuple):
    """The part of a SnapshotResponse that the sink decides; fields as there."""

    accepted: bool
    offset: int


def keep_chunk(sink: SnapshotSink, message: InstallSnapshot) -> Kept:
    """Gives the sink the chunk, if it is the next one. Raises SnapshotFailed."""
    snapshot = message.snapshot
    offset = sink.offset(snapshot)
    if message.offset != offset:
        return Kept(False, offset)
    if message.data:
        sink.write(message.data)
        offset += len(message.data)
    if offset == snapshot.size_bytes:
        sink.finish(snapshot)
    return Kept(True, offset)
