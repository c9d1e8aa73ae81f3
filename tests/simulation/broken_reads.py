"""Strong reads with one rule broken."""

from __future__ import annotations

import msgspec
import pytest

from consensus.election import Elections
from consensus.identity import Identity
from consensus.leader import Followers
from consensus.lease import Lease
from consensus.messages import Append
from consensus.raft_rules import RaftRules
from consensus.stock import Node
from consensus.waiting import Completion, Reads


def read_without_quorum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Followers, "quorum_confirmed", lambda self, membership, read_round: True)


def read_before_no_op(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4, step 1: a new leader does not know yet what is committed."""
    patch.setattr(
        RaftRules, "_no_op_index", property(lambda self: 0, lambda self, index: None), raising=False
    )


def read_before_applied(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4, step 4: the state machine is not yet where the read index is."""
    finish = Reads.finish_round
    patch.setattr(Reads, "finish_round", lambda self, applied_index: finish(self, 1 << 60))


def read_joins_a_round_under_way(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4, step 3: the round's messages left before the read came."""
    add = Reads.add

    def join(self: Reads, completion: Completion) -> None:
        if self._waiting:
            self._waiting.append(completion)
        else:
            add(self, completion)

    patch.setattr(Reads, "add", join)


def answer_of_any_round(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4, step 3: whatever a follower answers confirms the round that is open."""
    patch.setattr(
        Followers,
        "quorum_confirmed",
        lambda self, membership, read_round: (
            2 * sum(each.confirmed_round > 0 for each in self._progress.values()) >= len(self._progress)
        ),
    )


def refusal_echoes_the_round(patch: pytest.MonkeyPatch) -> None:
    """The answer to a message of an old term confirms a round of a later leadership of its sender."""
    on_append = RaftRules._on_append

    def take(self: RaftRules, node: Node, message: Append, terms: list[int]) -> None:
        on_append(self, node, message, terms)
        waiting = self._outbox._waiting[node.id]
        waiting[-1] = msgspec.structs.replace(waiting[-1], round=message.round)

    patch.setattr(RaftRules, "_on_append", take)


def lease_from_the_answers(patch: pytest.MonkeyPatch) -> None:
    """Thesis section 6.4.1: a lease begins when the round did, not when it was answered."""
    confirmed = RaftRules._advance_reads

    def late(self: RaftRules) -> None:
        if self._lease is not None and self.reads.round_open:
            self._lease.round_begins(self._clock())
        confirmed(self)

    patch.setattr(RaftRules, "_advance_reads", late)


def lease_of_who_gives_its_place_away(patch: pytest.MonkeyPatch) -> None:
    """The heir is elected in spite of what the others promised."""
    patch.setattr(Lease, "give_up", lambda self: None)


def lease_that_nobody_promised(patch: pytest.MonkeyPatch) -> None:
    """Members elect another leader as soon as the connection to the last one is closed."""
    patch.setattr(Elections, "_promised", lambda self: False)


def lease_on_answers_without_a_promise(patch: pytest.MonkeyPatch) -> None:
    """Members whose settings know no leases count for one."""
    patch.setattr(Followers, "quorum_promised", Followers.quorum_confirmed)


def promise_forgotten_in_a_restart(patch: pytest.MonkeyPatch) -> None:
    """Whoever starts with other settings votes at once, while its leader's lease lasts."""
    patch.setattr(Identity, "promise", lambda self, promise_us: None)
