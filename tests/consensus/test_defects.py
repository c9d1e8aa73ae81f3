"""The defects of PySyncObj that CONSENSUS.md numbers: each shown on the stock engine, and closed on ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import FAIL_REASON
from pysyncobj.journal import ResizableFile

from consensus import errors
from consensus.errors import InvariantBroken, MalformedMessage, NotLeader, OutcomeUnknown, ReplicaStopped
from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse, RequestVote, VoteResponse
from consensus.progress import Progress
from tests.consensus.cores import Bench, Outcome, append, entries
from tests.consensus.rocks import RocksStore
from tests.consensus.stock_node import NO_OP, StockNode


class BrokenStore:
    """A store whose disk fails when `failing` is set, or, after the write, when `failing_to_sync` is."""

    def __init__(self, store: RocksStore) -> None:
        self._store = store
        self.get, self.scan = store.get, store.scan
        self.failing = self.failing_to_sync = False

    def write(self, *batch: Any) -> None:
        if self.failing:
            raise OSError("no space left on device")
        self._store.write(*batch)

    def sync(self) -> None:
        if self.failing_to_sync:
            raise OSError("input/output error")
        self._store.sync()


# F1: the commit index goes over what the message proved.


def test_f1_stock_commits_its_own_unconfirmed_tail() -> None:
    node = StockNode()
    node.append("n1", 1, (1, 0), [(NO_OP, 2, 1), (NO_OP, 3, 1)], commit=1)
    node.receive("n2", type="append_entries", term=2, commit_index=9, serialized=None)
    assert node.commit_index == 3


def test_f1_nothing_is_committed_that_the_message_does_not_show(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1, 1)))
    with pytest.raises(MalformedMessage):
        bench.core.receive("n2", append(2, (1, 0), commit_index=3))
    assert (bench.core.term, bench.core.commit_index) == (1, 1)
    bench.answer_to("n2", append(2, (1, 0), commit_index=1))
    assert bench.core.commit_index == 1
    bench.answer_to("n2", append(2, (2, 1), commit_index=2))
    assert bench.core.commit_index == 2


def test_f1_the_commit_index_never_falls(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1, 1), commit_index=3))
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1), commit_index=2))
    assert bench.core.commit_index == 3


# F2: a message that comes twice or late deletes what it once brought.


def test_f2_stock_deletes_acknowledged_entries_when_a_message_comes_late() -> None:
    node = StockNode()
    node.append("n1", 1, (1, 0), [(NO_OP, 2, 1), (NO_OP, 3, 1), (NO_OP, 4, 1)], commit=4)
    node.append("n1", 1, (1, 0), [(NO_OP, 2, 1)], commit=2)
    assert node.last_index == 2


@pytest.mark.parametrize("late", [append(1, (1, 0), entries(2, 1)), append(1), append(1, (2, 1))])
def test_f2_a_late_message_deletes_nothing(tmp_path: Path, late: Append) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1, 1, 1)))
    bench.answer_to("n1", late)
    assert bench.core.log.last_index == 4


def test_f2_only_what_contradicts_the_leader_is_deleted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1, 1, 1)))
    answer = bench.answer_to("n2", append(2, (1, 0), entries(2, 1, 2)))
    assert answer == AppendResponse(2, True, 3, 0, 0, 0)
    log = DurableLog(bench.store)
    assert [log.term_at(index) for index in range(1, 5)] == [0, 1, 2, None]


@pytest.mark.parametrize(
    "contradiction", [append(2, (1, 0), entries(2, 2)), append(2, (3, 2)), append(2, (2, 2), entries(3, 2))]
)
def test_f2_contradicting_a_committed_entry_stops_the_node(tmp_path: Path, contradiction: Append) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1, (1, 0), entries(2, 1, 1), commit_index=3))
    with pytest.raises(InvariantBroken, match="committed"):
        bench.core.receive("n2", contradiction)
    with pytest.raises(ReplicaStopped):
        bench.settle()
    assert DurableLog(bench.store).last_index == 3


# F3: an acknowledgement from an older leadership counts.


def test_f3_stock_counts_an_acknowledgement_without_knowing_its_term() -> None:
    node = StockNode()
    first_term = node.elect()
    node.receive("n2", type="request_vote", term=first_term + 1, last_log_index=0, last_log_term=0)
    node.elect()
    # What a follower answered to the first leadership, or to another leader altogether.
    node.receive("n1", type="next_node_idx", next_node_idx=4, reset=False, success=True)
    node.engine.doTick()
    assert node.commit_index == node.last_index == 3


def test_f3_an_acknowledgement_of_another_term_does_not_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first_term = bench.elect()
    bench.core.receive("n2", RequestVote(first_term + 1, 0, 0, True))
    term = bench.elect()
    last_index = bench.core.log.last_index
    bench.core.receive("n1", AppendResponse(first_term, True, last_index, 0, 0, 0))
    bench.settle()
    assert (bench.core.match_index("n1"), bench.core.commit_index) == (0, 1)
    bench.core.receive("n1", AppendResponse(term, True, last_index, 0, 0, 0))
    bench.settle()
    assert (bench.core.match_index("n1"), bench.core.commit_index) == (last_index, last_index)


@pytest.mark.parametrize(
    "message", [AppendResponse(99, False, 1, 0, 0, 0), VoteResponse(99, False), RequestVote(99, 0, 0, True)]
)
def test_f3_a_higher_term_in_any_message_ends_the_leadership(
    tmp_path: Path, message: AppendResponse | VoteResponse | RequestVote
) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    outcome = Outcome()
    bench.core.propose(b"x", outcome)
    bench.core.receive("n1", message)
    assert not bench.core.leads
    assert bench.core.term == 99
    assert isinstance(outcome.error, OutcomeUnknown)


# F7: what is promised is not on disk.


def test_f7_stock_votes_and_acknowledges_without_syncing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append("fsync"))
    monkeypatch.setattr(ResizableFile, "flush", lambda file: synced.append("msync"))
    node = StockNode(tmp_path / "journal")
    node.receive("n1", type="request_vote", term=1, last_log_index=1, last_log_term=0)
    node.append("n1", 1, (1, 0), [(NO_OP, 2, 1)], commit=1)
    assert [message["type"] for _, message in node.transport.sent] == ["response_vote", "next_node_idx"]
    assert synced == []
    node.close()


def test_f7_nothing_is_sent_before_it_is_on_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.settle()
    bench.core.receive("n1", RequestVote(5, 1, 0, False))
    bench.core.receive("n1", append(5, (1, 0), entries(2, 5)))
    assert DurableLog(bench.store).current_term == 0  # Staged only; a crash here has promised nothing.
    answers = [message for _, message in bench.settle()]
    assert [type(each) for each in answers] == [VoteResponse, AppendResponse]
    stored = DurableLog(bench.store)
    assert (stored.current_term, stored.voted_for, stored.last_index) == (5, "n1", 2)


def test_f7_a_vote_survives_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.answer_to("n1", RequestVote(1, 1, 0, False)) == VoteResponse(1, True)
    bench.restart()
    assert bench.answer_to("n2", RequestVote(1, 1, 0, False)) == VoteResponse(1, False)
    assert bench.answer_to("n1", RequestVote(1, 1, 0, False)) == VoteResponse(1, True)


def test_f7_a_disk_that_fails_stops_the_node_and_nothing_is_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    store = BrokenStore(bench.store)
    bench.core = bench.new_core(store)
    bench.settle()
    store.failing = True
    bench.core.receive("n1", append(1, (1, 0), entries(2, 1)))
    with pytest.raises(OSError, match="no space"):
        bench.settle()
    store.failing = False  # A second sync might succeed and prove nothing: it is never tried.
    with pytest.raises(ReplicaStopped):
        bench.settle()
    with pytest.raises(InvariantBroken, match="failed before"):
        bench.core.log.sync()
    assert DurableLog(bench.store).last_index == 1


def test_f7_a_cluster_of_one_does_not_count_itself_before_its_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=1)
    store = BrokenStore(bench.store)
    bench.core = bench.new_core(store)
    bench.elect()
    outcome = Outcome()
    bench.core.propose(b"x", outcome)
    store.failing = True
    with pytest.raises(OSError, match="no space"):
        bench.settle()
    assert isinstance(outcome.error, OutcomeUnknown)
    assert bench.machine.applied_index == 0


def test_f7_a_leader_that_sends_ahead_of_its_disk_does_not_count_itself(tmp_path: Path) -> None:
    """Thesis section 10.2.1: the entry may be on its way before the own sync, the promise may not."""
    bench = Bench(tmp_path)
    store = BrokenStore(bench.store)
    bench.core = bench.new_core(store)
    bench.elect()
    bench.acknowledge("n1")
    bench.acknowledge("n2")
    bench.settle()
    outcome = Outcome()
    index = bench.core.propose(b"x", outcome)
    store.failing_to_sync = True
    steps = bench.core.settle()
    ahead = [message for _, messages in next(steps) for message in messages]
    assert [len(message.entries) for message in ahead if isinstance(message, Append)] == [1, 1]
    with pytest.raises(OSError, match="input/output"):
        next(steps)
    assert isinstance(outcome.error, OutcomeUnknown)
    assert bench.machine.applied_index < index


# F10: a diverged log is repaired one index a heartbeat.


def test_f10_stock_steps_back_one_index_a_message() -> None:
    node = StockNode()
    node.append("n1", 1, (1, 0), [(NO_OP, index, 1) for index in range(2, 602)], commit=1)
    node.append("n2", 2, (600, 2), [], commit=1)
    _, answer = node.transport.sent[-1]
    assert answer["next_node_idx"] == 600


def test_f10_a_diverged_log_of_hundreds_of_entries_is_repaired_in_two_steps(tmp_path: Path) -> None:
    leader, follower = Bench(tmp_path / "leader"), Bench(tmp_path / "follower")
    for index, each in enumerate(entries(2, *[1] * 9), 2):
        leader.core.log.append(index, 1, each)
        follower.core.log.append(index, 1, each)
    for index, each in enumerate(entries(11, *[2] * 600), 11):
        follower.core.log.append(index, 2, each)
    for _ in range(3):
        leader.elect()
        leader.core.receive("n2", VoteResponse(leader.core.term + 1, False))
    leader.elect()
    refusals = 0
    for _ in range(6):
        sent = [message for target, message in leader.wait(0.1) if target == "n1"]
        for message in sent:
            follower.core.receive("n1", message)
        for _, answer in follower.settle():
            assert isinstance(answer, AppendResponse)
            refusals += not answer.accepted
            leader.core.receive("n1", answer)
    assert leader.core.match_index("n1") == leader.core.log.last_index == follower.core.log.last_index
    assert 1 <= refusals <= 2


# F11: request ids begin again with 1.


def test_f11_stock_forwards_with_the_same_request_id_after_a_restart() -> None:
    ids = []
    for _ in range(2):
        node = StockNode()
        node.append("n1", 1, (1, 0), [], commit=1)
        node.engine._applyCommand(b"command", lambda result, error: None, 0)
        node.engine.doTick()
        ids += [m["request_id"] for _, m in node.transport.sent if m["type"] == "apply_command"]
    assert ids == [1, 1]
    assert FAIL_REASON.SUCCESS == 0


def test_f11_a_follower_forwards_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    with pytest.raises(NotLeader) as refused:
        bench.core.propose(b"x", Outcome())
    assert refused.value.leader_id == "n1"
    assert bench.settle() == []


# F12: nothing has a checksum.


def test_f12_stock_reads_a_flipped_bit_as_if_it_had_been_written(tmp_path: Path) -> None:
    node = StockNode(tmp_path / "journal")
    node.append("n1", 1, (1, 0), [(b"\x01an amount of 100", 2, 1)], commit=1)
    node.close()
    stored = bytearray((tmp_path / "journal").read_bytes())
    stored[stored.index(b"100")] ^= 1
    (tmp_path / "journal").write_bytes(stored)
    again: Any = StockNode(tmp_path / "journal")
    assert again.engine._SyncObj__raftLog[-1][0] == b"\x01an amount of 000"
    again.close()


def test_f12_a_record_damaged_on_the_wire_is_not_staged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.settle()
    [good] = entries(2, 1, payload=b"an amount of 100")
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(MalformedMessage):
            bench.core.receive("n1", append(1, (1, 0), (bytes(bad),)))
    assert (bench.core.log.last_index, bench.core.term) == (1, 0)
    assert bench.answer_to("n1", append(1, (1, 0), (good,))) == AppendResponse(1, True, 2, 0, 0, 0)


@pytest.mark.parametrize(
    "message",
    [
        append(2, (1, 0), entries(3, 1)),
        append(2, (1, 0), entries(2, 3)),
        append(2, (1, 2), entries(2, 1)),
        append(2, (1, 0), entries(2, 2, 1)),
        append(2, (1, 3)),
        append(2, (1, 0), entries(2, 2), commit_index=3),
    ],
    ids=["gap", "future term", "term falls at once", "term falls", "future previous", "commit beyond"],
)
def test_a_message_that_contradicts_itself_has_no_effect(tmp_path: Path, message: Append) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(MalformedMessage):
        bench.core.receive("n1", message)
    assert bench.settle() == []
    assert (bench.core.term, bench.core.log.last_index) == (0, 1)


# An exception in apply repeats for ever.


def test_stock_repeats_an_entry_that_cannot_be_applied() -> None:
    node = StockNode()
    node.append("n1", 1, (1, 0), [(b"\x00not a pickle", 2, 1)], commit=2)
    for _ in range(3):
        with pytest.raises(KeyError):
            node.engine.doTick()
    assert node.engine.raftLastApplied == 1


def test_an_entry_that_cannot_be_applied_stops_the_node(tmp_path: Path) -> None:
    class Failing:
        applied_index = calls = 0

        def apply(self, index: int, payload: bytes) -> object:
            self.calls += 1
            raise ZeroDivisionError("a defect")

    machine = Failing()
    bench = Bench(tmp_path, machine=machine)
    bench.core.receive("n1", append(1, (1, 0), entries(2, 1), commit_index=2))
    with pytest.raises(errors.EntryNotApplied, match="entry 2 could not be applied"):
        bench.settle()
    with pytest.raises(ReplicaStopped):
        bench.settle()
    assert machine.calls == 1


def test_every_road_to_pickle_is_closed(tmp_path: Path) -> None:
    engine: Any = Bench(tmp_path).core
    for name, arguments in (
        ("setCodeVersion", (0,)),
        ("_SyncObj__doApplyCommand", (b"\x00",)),
        ("_SyncObj__parseChangeClusterRequest", (b"\x02",)),
        ("_SyncObj__loadDumpFile", (True,)),
        ("_SyncObj__onMessageReceived", (None, {})),
    ):
        with pytest.raises(InvariantBroken):
            getattr(engine, name)(*arguments)


def test_f10_no_jump_goes_behind_the_logs_beginning() -> None:
    progress = Progress(50)
    assert progress.refused(49, candidate=1, floor=31)
    assert progress.next_index == 31
