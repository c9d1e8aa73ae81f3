"""From a proposal to its result: windows, lost messages, reads, bounds, and the cutting of the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus import limits, record
from consensus.errors import (
    LogCorrupt,
    MalformedMessage,
    OutcomeUnknown,
    ProposalTooLarge,
    ReadFailed,
    TooManyProposals,
)
from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse, VoteResponse
from consensus.record import Kind
from consensus.waiting import Proposals
from tests.consensus.cores import TIMING, Bench, Outcome, append, entries
from tests.consensus.rocks import Recorder


def appends_to(bench: Bench, peer_id: str, after_s: float = 0.0) -> list[Append]:
    sent = [message for target, message in bench.wait(after_s) if target == peer_id]
    assert all(isinstance(each, Append) for each in sent)
    return [each for each in sent if isinstance(each, Append)]


def replicating(path: Path) -> Bench:
    """A leader whose followers hold everything it has."""
    bench = Bench(path)
    bench.elect()
    for peer_id in ("n1", "n2"):
        bench.acknowledge(peer_id)
    bench.settle()
    return bench


def propose(bench: Bench, count: int = 1, payload: bytes = b"x") -> list[Outcome]:
    outcomes = [Outcome() for _ in range(count)]
    for outcome in outcomes:
        bench.core.propose(payload, outcome)
    return outcomes


def test_a_proposal_is_sent_at_once_and_answered_when_a_majority_has_it(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    [outcome] = propose(bench)
    [message] = appends_to(bench, "n1")
    assert len(message.entries) == 1
    assert not outcome.told
    bench.acknowledge("n2")
    bench.settle()
    assert outcome.result == 1
    assert isinstance(bench.machine, Recorder)
    assert bench.machine.applied == [(3, b"x")]


def test_proposals_of_one_turn_are_one_batch(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    batches = bench.store.batches
    propose(bench, 50)
    [message] = appends_to(bench, "n1")
    assert len(message.entries) == 50
    assert bench.store.batches == batches + 1


def test_a_window_that_is_full_sends_no_more_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_ENTRIES_MAX", 2)
    monkeypatch.setattr(limits, "IN_FLIGHT_BATCHES_MAX", 3)
    bench = replicating(tmp_path)
    propose(bench, 20)
    first = appends_to(bench, "n1")
    assert [len(each.entries) for each in first] == [2, 2, 2]
    assert [each.prev_index for each in first] == [2, 4, 6]
    heartbeats = appends_to(bench, "n1", TIMING.heartbeat_s * 1.1)
    assert [len(each.entries) for each in heartbeats] == [0]
    bench.acknowledge("n1", 4)
    assert [each.prev_index for each in appends_to(bench, "n1") if each.entries] == [8]


def test_a_lost_batch_is_found_by_the_next_heartbeat(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    propose(bench, 3)
    appends_to(bench, "n1")  # Lost.
    [heartbeat] = appends_to(bench, "n1", TIMING.heartbeat_s * 1.1)
    assert (heartbeat.prev_index, heartbeat.entries) == (5, ())
    bench.core.receive("n1", AppendResponse(bench.core.term, False, 5, 3, 0, 0))
    [again] = appends_to(bench, "n1")
    assert (again.prev_index, len(again.entries)) == (2, 3)


def test_a_lost_answer_is_made_good_by_the_next_heartbeat(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    [outcome] = propose(bench)
    appends_to(bench, "n1")
    [heartbeat] = appends_to(bench, "n1", TIMING.heartbeat_s * 1.1)
    bench.acknowledge("n1", heartbeat.prev_index)
    bench.settle()
    assert outcome.result == 1


def test_after_a_new_connection_everything_in_flight_is_sent_again(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    propose(bench, 3)
    appends_to(bench, "n1")
    bench.core.peer_disconnected("n1")
    assert appends_to(bench, "n1", 0.1) == []
    bench.core.peer_connected("n1")
    [again] = appends_to(bench, "n1")
    assert (again.prev_index, len(again.entries)) == (2, 3)


def test_a_follower_that_lost_its_disk_is_asked_once_a_heartbeat_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = replicating(tmp_path)
    bench.core.peer_connected("n1")
    messages = 0
    for _ in range(100):
        for message in appends_to(bench, "n1", 0.01):
            messages += 1
            refusal = AppendResponse(bench.core.term, False, message.prev_index, 1, 0, 0)
            bench.core.receive("n1", refusal)
        bench.acknowledge("n2")
    assert messages <= 1.2 / TIMING.heartbeat_s
    propose(bench, 1)
    for _ in range(100):
        for message in appends_to(bench, "n1", 0.02):
            refusal = AppendResponse(bench.core.term, False, message.prev_index, 1, 0, 0)
            bench.core.receive("n1", refusal)
        bench.acknowledge("n2")
    assert [each.message for each in caplog.records] == [
        "n1 lacks entries that it acknowledged: is its disk an old copy?"
    ]


def test_an_answer_for_what_was_never_sent_has_no_effect(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    with pytest.raises(MalformedMessage):
        bench.core.receive("n1", AppendResponse(bench.core.term, True, 99, 0, 0, 0))
    assert bench.core.match_index("n1") == 2
    bench.settle()


def test_what_was_applied_is_not_applied_again_after_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    records = entries(2, 1, 1, payload=b"a")
    bench.answer_to("n1", append(1, (1, 0), records, commit_index=3))
    bench.restart()
    assert (bench.core.applied_index, bench.core.commit_index) == (3, 3)
    bench.answer_to("n1", append(1, (3, 1), entries(4, 1, payload=b"b"), commit_index=4))
    assert isinstance(bench.machine, Recorder)
    assert bench.machine.applied == [(2, b"a"), (3, b"a"), (4, b"b")]


def test_a_log_that_lacks_what_is_applied_stops_the_node(tmp_path: Path) -> None:
    machine = Recorder()
    machine.applied.append((7, b"x"))
    with pytest.raises(LogCorrupt, match="applied"):
        Bench(tmp_path, machine=machine)


# Bounds.


def test_proposals_are_bounded_in_size_number_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRY_PAYLOAD_SIZE_BYTES_MAX", 100)
    monkeypatch.setattr(limits, "PROPOSALS_OUTSTANDING_MAX", 5)
    monkeypatch.setattr(limits, "PROPOSALS_OUTSTANDING_SIZE_BYTES_MAX", 250)
    bench = replicating(tmp_path)
    with pytest.raises(ProposalTooLarge):
        propose(bench, payload=b"x" * 101)
    propose(bench, 2, b"x" * 100)
    with pytest.raises(TooManyProposals, match="bytes"):
        propose(bench, payload=b"x" * 100)
    propose(bench, 3)
    with pytest.raises(TooManyProposals, match="5 proposals"):
        propose(bench)
    bench.acknowledge("n1")
    bench.settle()
    propose(bench, 5)


def test_reads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READS_WAITING_MAX", 2)
    bench = replicating(tmp_path)
    bench.core.read(Outcome())
    bench.core.read(Outcome())
    with pytest.raises(ReadFailed, match="too many"):
        bench.core.read(Outcome())


def test_a_long_replay_is_cut_into_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "APPLY_ENTRIES_PER_TICK_MAX", 10)
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, *[1] * 25), commit_index=26))
    assert bench.core.applied_index == 11
    bench.settle()
    bench.settle()
    assert bench.core.applied_index == 26


# ReadIndex (Raft thesis section 6.4).


def test_a_read_waits_for_a_round_begun_after_it(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    first, second = Outcome(), Outcome()
    bench.core.read(first)
    [message] = appends_to(bench, "n1")
    bench.core.read(second)
    assert appends_to(bench, "n1") == []  # One round at a time.
    bench.acknowledge("n1", read_round=message.round)
    sent = appends_to(bench, "n2")
    assert first.told
    assert not second.told
    assert [each.round for each in sent] == [message.round + 1]
    bench.acknowledge("n1", read_round=message.round)
    bench.settle()
    assert not second.told
    bench.acknowledge("n2", read_round=message.round + 1)
    bench.settle()
    assert second.told


def test_reads_of_one_turn_share_a_round(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    reads = [Outcome() for _ in range(100)]
    for read in reads:
        bench.core.read(read)
    [message] = appends_to(bench, "n1")
    bench.acknowledge("n1", read_round=message.round)
    bench.settle()
    assert all(read.told and read.error is None for read in reads)


def test_a_new_leader_answers_no_read_before_an_entry_of_its_term_is_committed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    read = Outcome()
    bench.core.read(read)
    sent = appends_to(bench, "n1", TIMING.heartbeat_s * 1.1)
    assert [each.round for each in sent] == [0]
    bench.acknowledge("n1", 1)
    bench.settle()
    assert not read.told
    bench.acknowledge("n1")
    [message] = [each for each in appends_to(bench, "n1") if each.round == 1]
    bench.acknowledge("n1", read_round=message.round)
    bench.settle()
    assert read.told


def test_a_refusal_confirms_the_leader_too(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    read = Outcome()
    bench.core.read(read)
    [message] = appends_to(bench, "n1")
    bench.core.receive("n1", AppendResponse(bench.core.term, False, 2, 2, 0, message.round))
    bench.settle()
    assert read.told


def test_reads_fail_when_the_leader_is_deposed(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    read = Outcome()
    bench.core.read(read)
    bench.settle()
    bench.core.receive("n1", VoteResponse(99, False))
    assert isinstance(read.error, ReadFailed)


def test_a_proposal_replaced_by_another_leader_is_an_unknown_outcome(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    [outcome] = propose(bench)
    bench.settle()
    bench.answer_to("n1", append(9, (2, bench.core.term), entries(3, 9), commit_index=3))
    assert isinstance(outcome.error, OutcomeUnknown)
    assert outcome.result is None


def test_only_the_proposer_of_the_very_entry_gets_its_result() -> None:
    proposals, outcome, other = Proposals(), Outcome(), Outcome()
    proposals.add(7, 2, 10, outcome)
    proposals.add(8, 2, 10, other)
    proposals.applied(7, 3, "of another")
    proposals.applied(8, 2, "its own")
    assert isinstance(outcome.error, OutcomeUnknown)
    assert outcome.result is None
    assert other.result == "its own"


# Deleting the beginning of the log.


@pytest.fixture
def _keep_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 5)
    monkeypatch.setattr(limits, "LOG_COMPACTION_STEP_ENTRIES", 5)


@pytest.mark.usefixtures("_keep_little")
def test_the_log_is_cut_only_behind_what_every_member_holds(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    propose(bench, 40)
    bench.settle()
    bench.acknowledge("n1")
    bench.wait(TIMING.heartbeat_s * 1.1)
    assert bench.core.applied_index == 42
    assert bench.core.log.first_index == 1
    bench.acknowledge("n2")
    heartbeats = appends_to(bench, "n1", TIMING.heartbeat_s * 1.1)
    assert heartbeats[-1].retain_index == 42
    bench.settle()
    assert bench.core.log.first_index == 37
    assert DurableLog(bench.store).first_index == 37
    bench.restart()
    assert bench.core.applied_index == 42


@pytest.mark.usefixtures("_keep_little")
def test_a_follower_cuts_its_log_no_further_than_it_has_applied(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    records = entries(2, *[1] * 40)
    bench.core.receive("n1", Append(1, 1, 0, records, 20, 0, 41))
    bench.settle()
    assert bench.core.log.first_index == 15
    # A late message from before the cut still finds its predecessor, or needs none.
    late = bench.answer_to("n1", append(1, (1, 0), records))
    assert late == AppendResponse(1, True, 41, 0, 0, 0)


@pytest.mark.usefixtures("_keep_little")
def test_entries_the_state_machine_would_ask_for_after_a_crash_are_kept(tmp_path: Path) -> None:
    """No-ops pass it by: it may have applied far less than Raft has."""
    bench = Bench(tmp_path)
    no_ops = tuple(record.encode(index, 1, Kind.NO_OP, b"") for index in range(3, 42))
    records = entries(2, 1) + no_ops
    bench.core.receive("n1", Append(1, 1, 0, records, 41, 0, 41))
    bench.settle()
    assert (bench.core.applied_index, bench.machine.applied_index) == (41, 2)
    assert bench.core.log.first_index == 2
    bench.restart()
    assert bench.core.applied_index == 2


@pytest.mark.usefixtures("_keep_little")
def test_what_an_older_leader_said_of_the_members_is_forgotten(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    records = entries(2, *[1] * 40)
    bench.core.receive("n1", Append(1, 1, 0, records, 1, 0, 41))
    bench.core.receive("n2", append(2, (41, 1), commit_index=41))
    bench.settle()
    assert bench.core.applied_index == 41
    assert bench.core.log.first_index == 1


def test_an_answer_to_an_older_leadership_says_nothing_of_this_log(tmp_path: Path) -> None:
    """n0 led before, with a longer log: what it sent then is answered when it leads again."""
    bench = Bench(tmp_path)
    bench.elect()
    bench.acknowledge("n1")
    bench.settle()
    other = Bench(tmp_path / "other")
    other.answer_to("n2", append(bench.core.term))
    late = other.answer_to("n0", append(bench.core.term - 1, (70, 0)))
    held = bench.core.match_index("n1")
    bench.core.receive("n1", late)
    bench.settle()
    assert bench.core.leads
    assert bench.core.match_index("n1") == held
