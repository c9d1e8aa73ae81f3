"""Bugs planted in a node from outside: Python imports this by itself when its directory is on PYTHONPATH.

PLANTED_BUG names one. Each is what somebody could really get wrong; none is in the product's code path.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import import_module
from typing import Any


def acknowledge_before_sync() -> None:
    """The log's writes are left to the operating system."""
    from storage.engine import RaftRows

    RaftRows.sync = lambda self: None  # type: ignore[method-assign]


def stale_read_from_old_leader() -> None:
    """Who believes to lead answers strong reads without asking anybody, and believes it until somebody says
    otherwise (in PySyncObj for 30 s)."""
    from consensus.errors import NotLeader
    from consensus.raft_rules import RaftRules
    from node.reads import Reads

    async def at_once(self: Any) -> None:
        if not self._reader.is_leader:
            raise NotLeader(self._reader.leader_id)

    Reads.strong = at_once  # type: ignore[method-assign]
    RaftRules._check_quorum = lambda self: None  # type: ignore[method-assign]


def skipped_condition_check() -> None:
    from storage import transact

    transact._check_condition = lambda *_: None


def lost_idempotency_record() -> None:
    from storage.transition import Transition

    Transition.first_answer = lambda *_: None  # type: ignore[method-assign]


def replica_skips_a_block() -> None:
    """Node n1 applies nothing of every 300th entry."""
    if not any("/n1/" in argument for argument in sys.orig_argv):
        return
    from storage.commands import join_group
    from storage.machine import LedgerMachine

    apply = LedgerMachine.apply

    def skipping(self: Any, index: int, payload: bytes) -> list[Any]:
        return apply(self, index, join_group([]) if index % 300 == 0 else payload)

    LedgerMachine.apply = skipping  # type: ignore[method-assign]


def checkpoint_over_uncommitted_block() -> None:
    """The log signs one block more than there is committed: one that it believes will be."""
    from node.checkpoints import Checkpoints, Tree

    def early(self: Any, ledger: str, sealed: Any) -> str:
        tree = self.tree(self._info(ledger), sealed.size)
        ahead = Tree(tree.info, tree.origin, tree.size + 1, hashlib.sha256(tree.root).digest())
        note = self._completed(ahead, self._signers(tree.origin))
        return str(note)

    Checkpoints.of_seal = early  # type: ignore[method-assign]


def commit_index_not_capped() -> None:
    """A follower believes the leader's commit index, whatever its own log holds there (F1)."""
    from msgspec.structs import replace

    leader: Any = import_module("consensus.leader")
    follower: Any = import_module("consensus.follower")
    from consensus.leader import Followers
    from consensus.raft_rules import RaftRules

    known = {"commit": 0}
    send, real_append, terms_of, on_append = (
        Followers.send,
        leader.Append,
        follower.terms_of,
        RaftRules._on_append,
    )

    def send_knowing(self: Any, standing: Any, *rest: Any, **members: Any) -> None:
        known["commit"] = standing.commit_index
        send(self, standing, *rest, **members)

    def uncapped(**members: Any) -> Any:
        return real_append(**{**members, "commit_index": max(members["commit_index"], known["commit"])})

    def believing(message: Any) -> list[int]:
        shown = message.prev_index + len(message.entries)
        terms: list[int] = terms_of(replace(message, commit_index=min(message.commit_index, shown)))
        return terms

    def on_append_uncapped(self: Any, node: Any, message: Any, terms: list[int]) -> None:
        on_append(self, node, message, terms)
        if message.term == self.term and not self.leads:
            index = min(message.commit_index, self._log.synced_index)
            self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    Followers.send = send_knowing  # type: ignore[method-assign]
    leader.Append = uncapped
    follower.terms_of = believing
    RaftRules._on_append = on_append_uncapped  # type: ignore[method-assign]


def task_left_over() -> None:
    """Every strong read leaves a task behind that waits for ever."""
    import asyncio

    from node.reads import Reads

    strong, left = Reads.strong, []

    async def leaving(self: Any) -> None:
        left.append(asyncio.ensure_future(asyncio.Event().wait()))
        await strong(self)

    Reads.strong = leaving  # type: ignore[method-assign]


globals()[os.environ["PLANTED_BUG"]]()
