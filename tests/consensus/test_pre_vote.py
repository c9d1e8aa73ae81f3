"""A leader that works keeps its office: pre-vote, and votes that are not given while it is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.config import Role
from consensus.errors import InvariantBroken
from consensus.messages import (
    AppendResponse,
    PreVote,
    PreVoteResponse,
    RequestVote,
    TimeoutNow,
    VoteResponse,
)
from tests.consensus.cores import TIMING, Bench, append, entries

# Asking.


def test_a_silent_leader_is_asked_about_before_the_term_rises(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    assert bench.wait(TIMING.election_s_min * 0.9) == []
    asked = bench.wait_for_pre_vote()
    assert asked == [("n1", PreVote(2, 1, 0)), ("n2", PreVote(2, 1, 0))]
    assert (bench.core.term, bench.core.role) == (1, Role.FOLLOWER)
    assert bench.core.leader_id is None


def test_only_a_majority_of_grants_for_this_very_term_raises_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=5)
    bench.wait_for_pre_vote()
    for peer_id, asked_term, granted in (
        ("n1", 1, True),
        ("n1", 1, True),
        ("n2", 1, False),
        ("n3", 2, True),
    ):
        bench.core.receive(peer_id, PreVoteResponse(0, asked_term, granted))
        bench.settle()
        assert bench.core.term == 0
    bench.core.receive("n4", PreVoteResponse(0, 1, True))
    assert {message for _, message in bench.settle()} == {RequestVote(1, 1, 0, False)}
    assert bench.core.term == 1


def test_lost_questions_and_answers_are_repeated_for_as_long_as_it_takes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.wait_for_pre_vote()
    for _ in range(100):
        repeated = bench.wait(TIMING.heartbeat_s * 1.1)
        assert ("n1", PreVote(1, 1, 0)) in repeated
    assert bench.core.term == 0
    bench.core.receive("n1", PreVoteResponse(0, 1, True))
    bench.settle()
    assert bench.core.term == 1


def test_a_leaders_message_ends_the_pre_vote_even_when_it_is_won(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.wait_for_pre_vote()
    bench.core.receive("n1", PreVoteResponse(0, 1, True))
    bench.core.receive("n2", append(0))
    bench.settle()
    assert bench.wait(TIMING.election_s_min * 0.9) == []
    assert (bench.core.term, bench.core.leader_id) == (0, "n2")


def test_a_refusal_teaches_the_term_and_the_next_question_is_about_the_one_after(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.wait_for_pre_vote()
    bench.core.receive("n1", PreVoteResponse(7, 1, False))
    assert bench.core.term == 7
    assert ("n1", PreVote(8, 1, 0)) in bench.wait(TIMING.hastened_s_max * 1.3)


def test_a_split_vote_is_repeated_soon(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.stand()
    bench.core.receive("n1", VoteResponse(1, False))
    sent = bench.wait(TIMING.hastened_s_max * 1.3)
    assert ("n1", PreVote(2, 1, 0)) in sent


def test_a_candidate_whom_nobody_answers_keeps_its_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.stand()
    bench.wait(60.0)
    assert bench.core.term == 1


# Answering.


def test_a_pre_vote_changes_nothing_and_binds_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.settle()
    rows = dict(bench.store.scan(b"", b"\xff" * 9))
    assert bench.answer_to("n1", PreVote(5, 1, 0)) == PreVoteResponse(0, 5, True)
    assert bench.answer_to("n2", PreVote(5, 1, 0)) == PreVoteResponse(0, 5, True)
    assert dict(bench.store.scan(b"", b"\xff" * 9)) == rows
    assert bench.core.term == 0


@pytest.mark.parametrize(("last_index", "last_term"), [(2, 2), (9, 1), (2, 1)])
def test_no_pre_vote_for_a_log_that_lacks_something(tmp_path: Path, last_index: int, last_term: int) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(2, (1, 0), entries(2, 1, 2)))
    bench.core.peer_lost("n1")
    assert bench.answer_to("n2", PreVote(3, last_index, last_term)) == PreVoteResponse(2, 3, False)
    assert bench.answer_to("n2", PreVote(2, 3, 2)) == PreVoteResponse(2, 2, False)
    assert bench.answer_to("n2", PreVote(3, 3, 2)) == PreVoteResponse(2, 3, True)


def test_whoever_hears_a_leader_grants_nothing_and_keeps_its_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    bench.clock.now += TIMING.election_s_min * 0.9
    assert bench.answer_to("n2", PreVote(2, 9, 1)) == PreVoteResponse(1, 2, False)
    bench.core.receive("n2", RequestVote(2, 9, 1, False))
    assert bench.settle() == []
    assert bench.core.term == 1
    # Not for ever: a leader that is silent is no reason any more.
    bench.clock.now += TIMING.election_s_min * 0.2
    assert bench.answer_to("n2", PreVote(2, 9, 1)) == PreVoteResponse(1, 2, True)
    assert bench.answer_to("n2", RequestVote(2, 9, 1, False)) == VoteResponse(2, True)


def test_a_leader_grants_nothing_and_keeps_its_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    term = bench.elect()
    assert bench.answer_to("n2", PreVote(term + 1, 9, term)) == PreVoteResponse(term, term + 1, False)
    bench.core.receive("n2", RequestVote(term + 1, 9, term, False))
    assert bench.core.leads


def test_a_vote_that_the_leader_wants_is_given_although_it_is_heard(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    assert bench.answer_to("n2", RequestVote(2, 1, 0, True)) == VoteResponse(2, True)


def test_a_member_whose_term_is_ahead_can_come_back(tmp_path: Path) -> None:
    """Its refusal of the leader's messages carries its term (etcd-io/raft calls it a stuck node)."""
    bench = Bench(tmp_path)
    bench.elect()
    bench.core.receive("n2", AppendResponse(5, False, 1, 0, 0, 0))
    assert (bench.core.leads, bench.core.term) == (False, 5)


# A leader whose process has ended.


def test_a_leader_that_is_gone_is_replaced_without_waiting_for_its_silence(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    bench.core.peer_lost("n2")
    assert bench.wait(TIMING.hastened_s_max * 1.3) == []
    bench.core.peer_lost("n1")
    assert bench.core.leader_id is None
    assert ("n2", PreVote(2, 1, 0)) in bench.wait(TIMING.hastened_s_max * 1.3)
    assert bench.answer_to("n2", PreVote(2, 1, 0)) == PreVoteResponse(1, 2, True)


def test_a_connection_that_broke_alone_costs_no_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    bench.core.peer_lost("n1")
    bench.wait(TIMING.hastened_s_max * 1.3)
    bench.core.receive("n2", PreVoteResponse(1, 2, False))
    bench.answer_to("n1", append(1))
    assert bench.wait(TIMING.election_s_min * 0.9) == []
    assert (bench.core.term, bench.core.leader_id) == (1, "n1")


# Told to stand.


def test_a_follower_that_its_leader_tells_to_stand_does_so_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    for sender_id, term in (("n2", 1), ("n1", 0)):
        bench.core.receive(sender_id, TimeoutNow(term))
        assert bench.settle() == []
    bench.core.receive("n1", TimeoutNow(1))
    assert bench.settle() == [
        ("n1", RequestVote(2, 1, 0, True)),
        ("n2", RequestVote(2, 1, 0, True)),
    ]


def test_a_leader_cannot_be_told_to_stand(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    term = bench.elect()
    bench.core.receive("n1", TimeoutNow(term))
    bench.settle()
    assert (bench.core.leads, bench.core.term) == (True, term)
    with pytest.raises(InvariantBroken):
        bench.core.receive("n1", append(term))
