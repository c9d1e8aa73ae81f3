"""The state machine with one rule broken."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from consensus.raft_rules import RaftRules
from stele.format.block import information_bytes
from storage import transact
from storage.machine import LedgerMachine
from storage.transition import Transition


def skipped_entry(patch: pytest.MonkeyPatch) -> None:
    apply = RaftRules._apply

    def skip(self: RaftRules, index: int, each: bytes) -> None:
        if self.node_id == "n1" and index % 20 == 0:
            self._SyncObj__raftLastApplied = index
        else:
            apply(self, index, each)

    patch.setattr(RaftRules, "_apply", skip)


def nondeterminism(patch: pytest.MonkeyPatch) -> None:
    count = itertools.count()
    patch.setattr(transact, "information_bytes", lambda by, key: information_bytes(f"{by}{next(count)}", key))


def lost_idempotency_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transition, "set_first_answer", lambda self, state, key_hash, answer: None)


def unseen_idempotency_record(patch: pytest.MonkeyPatch) -> None:
    """Within one entry, commands do not see each other's idempotency records."""
    set_answer = Transition.set_first_answer

    def set_first_answer(self: Transition, state: Any, key_hash: bytes, answer: Any) -> None:
        set_answer(self, state, key_hash, answer)
        self._written_answers.clear()

    patch.setattr(Transition, "set_first_answer", set_first_answer)


def applied_index_not_stored(patch: pytest.MonkeyPatch) -> None:
    """A node applies entries again after a restart."""
    patch.setattr(LedgerMachine, "applied_index", property(lambda self: 0))
