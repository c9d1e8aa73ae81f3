"""Leader leases (Raft thesis section 6.4.1): when reads pass at once, and what followers promise for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.config import ReadLease
from consensus.lease import microseconds
from consensus.messages import AppendResponse, PreVote, PreVoteResponse, RequestVote, VoteResponse
from tests.consensus.cores import TIMING, Bench, Outcome, append

LEASE = ReadLease(clock_drift_max_ppm=100_000)
PROMISE_US = microseconds(TIMING.election_s_min)
LENGTH_S = TIMING.election_s_min * 0.9 / 1.1


def leading(path: Path) -> Bench:
    bench = Bench(path, read_lease=LEASE)
    bench.elect()
    bench.acknowledge("n1")
    bench.settle()
    return bench


def passes_at_once(bench: Bench) -> bool:
    outcome = Outcome()
    bench.core.read(outcome)
    bench.settle()
    return outcome.told


def test_a_lease_lasts_from_the_start_of_the_round_that_was_answered(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    assert not passes_at_once(bench)
    began, asked = bench.clock.now, bench.core.reads.round
    bench.clock.now = began + 0.5 * LENGTH_S
    bench.acknowledge("n1", read_round=asked, promise_us=PROMISE_US)
    bench.settle()
    assert passes_at_once(bench)
    bench.clock.now = began + 0.99 * LENGTH_S
    assert passes_at_once(bench)
    bench.clock.now = began + 1.01 * LENGTH_S
    assert not passes_at_once(bench)


def test_a_lease_is_renewed_without_reads(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    for _ in range(50):
        bench.wait(TIMING.heartbeat_s)
        bench.acknowledge("n1", read_round=bench.core.reads.round, promise_us=PROMISE_US)
    bench.settle()
    assert passes_at_once(bench)


def test_who_gives_its_place_away_has_no_lease_again(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    passes_at_once(bench)
    bench.acknowledge("n1", read_round=bench.core.reads.round, promise_us=PROMISE_US)
    bench.settle()
    assert passes_at_once(bench)
    given_up = Outcome()
    bench.core.transfer("n2", given_up)
    assert not passes_at_once(bench)
    for _ in range(20):
        bench.wait(TIMING.heartbeat_s)
        bench.acknowledge("n1", read_round=bench.core.reads.round, promise_us=PROMISE_US)
    assert given_up.error is not None
    assert not passes_at_once(bench)


@pytest.mark.parametrize("forgets", ["closed connection", "higher term", "restart"])
def test_who_has_heard_a_leader_elects_nobody_meanwhile(tmp_path: Path, forgets: str) -> None:
    bench = Bench(tmp_path, read_lease=LEASE)
    bench.answer_to("n1", append(1))
    if forgets == "closed connection":
        bench.core.peer_lost("n1")
    elif forgets == "higher term":
        bench.core.receive("n2", VoteResponse(2, False))
    else:
        bench.restart()
    term = bench.core.term
    asked = bench.answer_to("n2", PreVote(term + 1, 1, 0))
    assert isinstance(asked, PreVoteResponse)
    assert not asked.granted
    bench.core.receive("n2", RequestVote(term + 1, 1, 0, False))
    assert not any(isinstance(each, PreVote) for _, each in bench.wait(0.95 * TIMING.election_s_min))
    assert bench.core.term == term
    assert bench.wait_for_pre_vote()


@pytest.mark.parametrize("promise_us", [0, PROMISE_US - 1])
def test_who_does_not_promise_enough_confirms_rounds_and_no_lease(tmp_path: Path, promise_us: int) -> None:
    bench = leading(tmp_path)
    outcome = Outcome()
    bench.core.read(outcome)
    bench.settle()
    for _ in range(2):  # The round that the lease wants, and the read's.
        bench.acknowledge("n1", read_round=bench.core.reads.round, promise_us=promise_us)
        bench.settle()
    assert outcome.told
    assert not passes_at_once(bench)
    bench.acknowledge("n2", read_round=bench.core.reads.round, promise_us=PROMISE_US)
    bench.settle()
    assert passes_at_once(bench)


def test_answers_say_what_is_promised(tmp_path: Path) -> None:
    for lease, promise_us in ((None, 0), (LEASE, PROMISE_US)):
        bench = Bench(tmp_path / str(promise_us), read_lease=lease)
        answer = bench.answer_to("n1", append(1))
        assert isinstance(answer, AppendResponse)
        assert answer.promise_us == promise_us


def test_a_promise_is_kept_by_whoever_starts_without_leases(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read_lease=LEASE)
    bench.answer_to("n1", append(1))
    bench.settings["read_lease"] = None
    bench.restart()
    asked = PreVote(bench.core.term + 1, 1, 0)
    refused = bench.answer_to("n2", asked)
    assert isinstance(refused, PreVoteResponse)
    assert not refused.granted
    assert not any(isinstance(each, PreVote) for _, each in bench.wait(0.95 * TIMING.election_s_min))
    bench.wait(0.1 * TIMING.election_s_min)
    granted = bench.answer_to("n2", asked)
    assert isinstance(granted, PreVoteResponse)
    assert granted.granted
    bench.restart()  # That is long ago, and nothing has been promised since.
    granted = bench.answer_to("n2", asked)
    assert isinstance(granted, PreVoteResponse)
    assert granted.granted


def test_the_heir_of_the_leader_is_elected_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read_lease=LEASE)
    bench.answer_to("n1", append(1))
    assert bench.answer_to("n2", RequestVote(2, 1, 0, True)) == VoteResponse(2, True)


@pytest.mark.parametrize("drift", [-1, 1_000_000])
def test_a_drift_that_leaves_no_lease_is_refused(drift: int) -> None:
    with pytest.raises(ValueError):
        ReadLease(drift)
