"""Makes the log that came with another node's snapshot this node's own (Raft thesis section 5.3)."""

from __future__ import annotations

from consensus import membership_history, record
from consensus.errors import InvariantBroken, LogCorrupt
from consensus.log_rows import OWN_ROWS, bounds_row, entry_key, membership_row
from consensus.log_store import LogStore
from consensus.membership import MembershipInvalid
from consensus.record import RecordCorrupt
from consensus.snapshot import Snapshot

_EVERYTHING = (b"", b"\xff")


def replace_log(received: LogStore, own: LogStore, snapshot: Snapshot) -> None:
    """Leaves in `received`, the store that came, a log of one entry: the snapshot's last.

    What this node promised (its term and its vote) stays promised: those rows come from `own`, the log store
    that it has used until now, and must not change any more. One atomic, synced batch. Raises LogCorrupt
    when the snapshot does not have its own last entry, and InvariantBroken when `own` has promised nothing:
    whoever was sent a snapshot is in its sender's term.
    """
    kept = [(key, row) for key in OWN_ROWS if (row := own.get(key)) is not None]
    if not kept:
        raise InvariantBroken("a snapshot came to a node that has never seen a term")
    entry = _last_entry(received, snapshot)
    bounds = bounds_row(snapshot.index, snapshot.index, snapshot.term)
    received.write([entry, bounds, *_membership_of(snapshot), *kept], [_EVERYTHING])
    received.sync()


def _membership_of(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
    """The row of the membership as of the snapshot, if there was one by then. Raises LogCorrupt."""
    if not snapshot.membership:
        return []
    try:
        return [membership_row(membership_history.decode(snapshot.membership))]
    except MembershipInvalid as error:
        raise LogCorrupt(f"the snapshot of entry {snapshot.index} came with {error}") from error


def _last_entry(received: LogStore, snapshot: Snapshot) -> tuple[bytes, bytes]:
    """Raises LogCorrupt."""
    index, term = snapshot.index, snapshot.term
    row = received.get(entry_key(index, term))
    if row is None:
        raise LogCorrupt(f"the snapshot of entry {index}, term {term}, came without that entry", index)
    try:
        header = record.check(row)
    except RecordCorrupt as error:
        raise LogCorrupt(f"the snapshot's last entry is corrupt: {error}", index) from error
    if header[:2] != (index, term):
        raise LogCorrupt(f"the snapshot's last entry calls itself {header}", index)
    return entry_key(index, term), row
