"""Votes, terms and the leader's hold on its office."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.config import Role
from consensus.errors import InvariantBroken, OutcomeUnknown
from consensus.messages import Append, AppendResponse, RequestVote, VoteResponse
from tests.consensus.cores import TIMING, Bench, Outcome, append, entries


def test_a_follower_without_a_leader_stands_for_election(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    requests = bench.stand()
    assert requests == [("n1", RequestVote(1, 1, 0, False)), ("n2", RequestVote(1, 1, 0, False))]
    assert bench.core.role is Role.CANDIDATE


def test_a_node_that_did_not_run_reads_what_waits_for_it_before_it_stands(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    bench.clock.now += 60.0
    assert bench.settle() == []
    bench.answer_to("n1", append(1))
    assert bench.wait(TIMING.election_s_min * 0.9) == []
    assert bench.core.leader_id == "n1"


def test_a_leader_that_did_not_run_reads_what_waits_for_it_before_it_steps_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    bench.clock.now += 60.0
    bench.settle()
    assert bench.core.leads
    bench.acknowledge("n1", 1)
    bench.wait(TIMING.leader_fallback_s * 0.9)
    assert bench.core.leads
    bench.clock.now += 60.0
    bench.settle()
    bench.wait(1.1 * TIMING.heartbeat_s)
    assert bench.core.role is not Role.LEADER


def test_a_leaders_message_postpones_the_election(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(10):
        bench.clock.now += TIMING.election_s_min * 0.9
        bench.answer_to("n1", append(1))
    assert bench.core.role is Role.FOLLOWER
    assert bench.core.leader_id == "n1"


def test_a_node_that_reaches_nobody_asks_nobody_and_keeps_its_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for peer_id in ("n1", "n2"):
        bench.core.peer_disconnected(peer_id)
    assert bench.wait(10.0) == []
    assert bench.core.term == 0


def test_a_request_whose_answer_is_lost_is_repeated_and_granted_again(tmp_path: Path) -> None:
    candidate, voter = Bench(tmp_path / "candidate"), Bench(tmp_path / "voter")
    candidate.stand()
    request = RequestVote(candidate.core.term, 1, 0, False)
    assert voter.answer_to("n1", request) == VoteResponse(1, True)  # And this is lost.
    repeated = candidate.wait(TIMING.heartbeat_s * 1.1)
    assert ("n1", request) in repeated
    assert candidate.core.term == 1
    assert voter.answer_to("n1", request) == VoteResponse(1, True)
    assert voter.answer_to("n2", request) == VoteResponse(1, False)


def test_a_candidate_asks_a_member_it_reaches_only_now(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.stand()
    bench.core.peer_connected("n2")
    assert ("n2", RequestVote(1, 1, 0, False)) in bench.settle()


def test_one_voter_counts_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=5)
    bench.stand()
    for _ in range(5):
        bench.core.receive("n1", VoteResponse(1, True))
    assert bench.core.role is Role.CANDIDATE
    bench.core.receive("n2", VoteResponse(1, False))
    assert bench.core.role is Role.CANDIDATE
    bench.core.receive("n3", VoteResponse(1, True))
    assert bench.core.leads


def test_votes_of_another_term_do_not_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.stand()
    bench.stand()
    assert bench.core.term == 2
    bench.core.receive("n1", VoteResponse(1, True))
    assert bench.core.role is Role.CANDIDATE


def test_who_is_no_member_is_not_counted(tmp_path: Path) -> None:
    """What it asks for is answered: whoever leads may have been added since (thesis section 4.1)."""
    bench = Bench(tmp_path)
    bench.stand()
    bench.core.receive("n9", VoteResponse(bench.core.term, True))
    assert not bench.core.leads
    bench.elect()
    bench.core.receive("n9", AppendResponse(bench.core.term, True, bench.core.log.last_index, 0, 0, 0))
    bench.settle()
    assert bench.core.commit_index == 1
    assert bench.answer_to("n9", append(7, (1, 0), entries(2, 7))) == AppendResponse(7, True, 2, 0, 0, 0)


@pytest.mark.parametrize(("last_index", "last_term"), [(2, 2), (9, 1), (2, 1)])
def test_no_vote_for_a_log_that_lacks_something(tmp_path: Path, last_index: int, last_term: int) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(2, (1, 0), entries(2, 1, 2)))
    bench.core.peer_lost("n1")
    assert bench.answer_to("n2", RequestVote(3, last_index, last_term, False)) == VoteResponse(3, False)
    assert bench.answer_to("n2", RequestVote(3, 3, 2, False)) == VoteResponse(3, True)


def test_an_old_candidate_and_an_old_leader_learn_the_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(5))
    assert bench.answer_to("n2", RequestVote(4, 9, 4, False)) == VoteResponse(5, False)
    answer = bench.answer_to("n2", append(4, (1, 0), entries(2, 4)))
    assert answer == AppendResponse(5, False, 0, 0, 0, 0)
    # An old round confirms nothing: its sender may lead the new term, after a restart that began to count
    # rounds again, and would answer reads without having asked anybody (found by simulation, seed 50557).
    assert bench.answer_to("n2", Append(4, 1, 0, (), 1, 12, 0)) == answer
    assert bench.core.log.last_index == 1


def test_a_leader_that_no_majority_answers_steps_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    outcome = Outcome()
    bench.core.propose(b"x", outcome)
    for _ in range(20):
        bench.wait(TIMING.leader_fallback_s / 5)
        bench.acknowledge("n1", 1)
    assert bench.core.leads
    bench.wait(TIMING.leader_fallback_s * 1.1)
    assert bench.core.role is Role.FOLLOWER
    assert bench.core.leader_id is None
    assert isinstance(outcome.error, OutcomeUnknown)
    # And it does not stand again at once, with a higher term each time.
    assert bench.wait(TIMING.election_s_min / 2) == []


def test_two_leaders_in_one_term_stop_the_node(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    term = bench.elect()
    with pytest.raises(InvariantBroken, match="both lead"):
        bench.core.receive("n2", append(term))


def test_a_cluster_of_one_leads_and_commits_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=1)
    bench.elect()
    outcome = Outcome()
    bench.core.propose(b"x", outcome)
    bench.settle()
    assert outcome.result == 1
    read = Outcome()
    bench.core.read(read)
    bench.settle()
    assert read.told
    assert read.error is None
