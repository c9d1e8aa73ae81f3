"""Snapshots with one rule broken (consensus/follower.py, snapshot_streams.py, install.py)."""

from __future__ import annotations

import pytest

from chaos.simulation import snapshots
from consensus import follower, install
from consensus.leader import Followers
from consensus.log import DurableLog
from consensus.messages import AppendResponse, InstallSnapshot, SnapshotResponse
from consensus.raft_rules import RaftRules
from consensus.snapshot import Snapshot
from consensus.stock import Node


def older_than_the_commit(patch: pytest.MonkeyPatch) -> None:
    """F5: a snapshot at or below the commit index is installed."""

    def held_of(log: DurableLog, commit_index: int, snapshot: Snapshot) -> int | None:
        return snapshot.index if log.term_at(snapshot.index) == snapshot.term else None

    patch.setattr(follower, "held_of", held_of)


def tail_thrown_away(patch: pytest.MonkeyPatch) -> None:
    """F4: a snapshot is installed although the log holds its last entry, and more behind it."""
    held_of = follower.held_of

    def needs(log: DurableLog, commit_index: int, snapshot: Snapshot) -> int | None:
        held = held_of(log, commit_index, snapshot)
        return held if held is None or snapshot.index <= commit_index else None

    patch.setattr(follower, "held_of", needs)


def chunk_acknowledges_the_log(patch: pytest.MonkeyPatch) -> None:
    """F1: what was received of a snapshot counts as if it were installed."""
    on_install = RaftRules._on_install_snapshot

    def take(self: RaftRules, node: Node, message: InstallSnapshot) -> None:
        on_install(self, node, message)
        answer = self._outbox._waiting[node.id][-1]
        if isinstance(answer, SnapshotResponse) and answer.accepted:
            self._outbox.put(node.id, AppendResponse(self.term, True, message.snapshot.index, 0, 0, 0))

    patch.setattr(RaftRules, "_on_install_snapshot", take)


def digest_not_checked(patch: pytest.MonkeyPatch) -> None:
    """What is installed is not what was sent."""
    patch.setattr(snapshots, "is_as_sent", lambda content, snapshot: True)


def vote_of_the_leader_taken_over(patch: pytest.MonkeyPatch) -> None:
    """The received log's term and vote come with it, in the place of what this node promised."""
    patch.setattr(install, "OWN_ROWS", (b"i",))


def incarnation_of_the_leader_taken_over(patch: pytest.MonkeyPatch) -> None:
    """Two servers with one incarnation."""
    patch.setattr(install, "OWN_ROWS", (b"h",))


def membership_left_out(patch: pytest.MonkeyPatch) -> None:
    """The membership as of the snapshot's end is forgotten."""
    patch.setattr(install, "_membership_of", lambda snapshot: [])


def log_not_pinned(patch: pytest.MonkeyPatch) -> None:
    """The log does not go on from where the snapshot ends."""
    patch.setattr(Followers, "pinned_index", lambda self, last: last)
