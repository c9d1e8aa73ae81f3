"""Which server a disk makes of a node: the first election, and disks that are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus import membership
from consensus.config import Role
from consensus.errors import LogCorrupt
from consensus.log import DurableLog
from consensus.membership import Membership
from consensus.messages import Append, AppendResponse, PreVote, PreVoteResponse, RequestVote, VoteResponse
from tests.consensus.cores import TIMING, Bench, Outcome, append, members
from tests.consensus.test_changes import OTHER_DISK, commit, greet, membership_record, refusal


def test_an_incarnation_is_drawn_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    drawn = bench.core.incarnation
    assert len(drawn) == membership.INCARNATION_SIZE_BYTES
    bench.restart()
    assert bench.core.incarnation == drawn == DurableLog(bench.store).identity.incarnation
    for key in (b"i", b"m"):
        row = bench.store.get(key)
        assert row is not None
        bench.store.overwrite(key, row[:-1] + bytes([row[-1] ^ 1]))
        with pytest.raises(LogCorrupt):
            DurableLog(bench.store)
        bench.store.overwrite(key, row)
    DurableLog(bench.store)


def test_the_first_election_needs_everybody_and_names_every_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bootstrap=True)
    bench.wait_for_pre_vote()
    bench.core.receive("n1", PreVoteResponse(0, 1, True))
    bench.settle()
    assert bench.core.term == 0
    bench.core.receive("n2", PreVoteResponse(0, 1, True))
    bench.settle()
    bench.core.receive("n1", VoteResponse(1, True))
    assert bench.core.role is Role.CANDIDATE
    bench.core.receive("n2", VoteResponse(1, True))
    assert bench.core.leads
    named = {each.id: each.incarnation for each in bench.core.membership.members}
    assert named == {"n0": bench.core.incarnation, "n1": b"\x02" * 16, "n2": b"\x03" * 16}
    assert bench.core.membership_index == 3  # Behind the first entry of every log, and the no-op.
    commit(bench)
    assert bench.core.membership_committed
    # From now on a majority is enough.
    bench.core.receive("n1", append(5, (3, 1)))
    bench.stand()
    bench.core.receive("n2", VoteResponse(bench.core.term, True))
    assert bench.core.leads


def with_known_disks(path: Path) -> Bench:
    """n0 leads a cluster whose disks are all known."""
    bench = Bench(path, bootstrap=True)
    bench.stand()
    for peer_id in ("n1", "n2"):
        bench.core.receive(peer_id, VoteResponse(bench.core.term, True))
    commit(bench, "n1", "n2")
    return bench


def test_a_lost_disk_is_not_counted_and_comes_back_by_itself(tmp_path: Path) -> None:
    bench = with_known_disks(tmp_path)
    held = bench.core.match_index("n1")
    assert held == bench.core.log.last_index
    committed = bench.core.commit_index
    bench.core.propose(b"x", Outcome())
    greet(bench, "n1", OTHER_DISK)
    bench.acknowledge("n1")
    sent = bench.settle()
    assert bench.core.commit_index == committed
    lost = bench.core.membership
    assert (lost["n1"].voter, lost["n1"].incarnation, lost.quorum) == (False, OTHER_DISK, 2)
    assert bench.core.match_index("n1") == 0
    assert not bench.core.membership_committed
    assert any(target == "n1" and isinstance(each, Append) for target, each in bench.wait(0.2) + sent)
    bench.acknowledge("n1")  # It is that learner now: what it says is heard, and not counted.
    bench.settle()
    assert not bench.core.membership_committed
    commit(bench, "n2")
    bench.settle()
    commit(bench, "n1", "n2")
    back = bench.core.membership
    assert (back["n1"].voter, back["n1"].incarnation, len(back.voters)) == (True, OTHER_DISK, 3)
    assert bench.core.membership_committed


def test_a_lost_disk_is_not_counted_on_when_another_is_removed(tmp_path: Path) -> None:
    bench = with_known_disks(tmp_path)
    greet(bench, "n2", OTHER_DISK)
    assert refusal(bench.core.remove, "n1", Outcome()) == "quorum-at-risk"


def test_votes_of_a_lost_disk_are_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = with_known_disks(tmp_path)
    bench.answer_to("n2", append(7, (3, 1)))
    greet(bench, "n1", OTHER_DISK)
    bench.wait_for_pre_vote()
    for _ in range(3):
        bench.core.receive("n1", PreVoteResponse(7, 8, True))
    assert (bench.core.role, bench.core.term) == (Role.FOLLOWER, 7)
    bench.core.receive("n2", PreVoteResponse(7, 8, True))
    bench.settle()
    for _ in range(3):
        bench.core.receive("n1", VoteResponse(8, True))
    assert not bench.core.leads
    assert sum("n1 has another disk" in each.getMessage() for each in caplog.records) == 1


def test_whoever_leads_with_a_disk_that_this_server_does_not_know_is_followed(tmp_path: Path) -> None:
    """A server that was away while n1 came back must take from n1 the very entries that say so; that n1 leads
    is for others to have decided, who knew."""
    bench = with_known_disks(tmp_path)
    greet(bench, "n1", OTHER_DISK)
    changed = members(3, known=True).with_incarnation("n1", OTHER_DISK)
    index = bench.core.log.last_index
    answer = bench.answer_to("n1", append(7, (index, 1), (membership_record(index + 1, 7, changed),)))
    assert answer == AppendResponse(7, True, index + 1, 0, 0, 0)
    assert bench.core.membership == changed


def test_a_server_that_waits_to_be_added_only_follows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=0, bootstrap=True)
    assert bench.core.membership == Membership()
    assert bench.wait(3 * TIMING.election_s_max) == []
    row = membership_record(2, 1, members(3))
    bench.answer_to("n1", append(1, (1, 0), (row,), commit_index=2))
    assert bench.core.membership == members(3)


def test_a_server_without_its_disk_neither_stands_nor_counts_itself(tmp_path: Path) -> None:
    """It learns from the log it is sent that it is another server than the voter of its name."""
    bench = Bench(tmp_path, bootstrap=True)
    named = members(3, known=True)
    assert bench.core.incarnation != named["n0"].incarnation
    bench.answer_to("n1", append(1, (1, 0), (membership_record(2, 1, named),), commit_index=2))
    assert not any(isinstance(each, PreVote) for _, each in bench.wait(3 * TIMING.election_s_max))
    bench.answer_to("n1", append(1, (2, 1), (membership_record(3, 1, members(3)),), commit_index=3))
    assert any(isinstance(each, PreVote) for _, each in bench.wait(3 * TIMING.election_s_max))


def test_whoever_has_the_log_does_not_elect_who_lost_it(tmp_path: Path) -> None:
    """n1 and n2 come back empty, and look like the members of a new cluster: each asks everybody."""
    bench = with_known_disks(tmp_path)
    bench.answer_to("n2", append(7, (3, 1)))
    for peer_id in ("n1", "n2"):
        greet(bench, peer_id, OTHER_DISK)
    bench.wait(2 * TIMING.election_s_max)
    assert bench.answer_to("n1", RequestVote(8, 1, 0, False)) == VoteResponse(8, False)


def test_an_empty_disk_elects_nobody_without_the_one_that_has_the_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bootstrap=True)
    bench.wait_for_pre_vote()
    for _ in range(3):
        bench.core.receive("n1", PreVoteResponse(0, 1, True))
        bench.core.receive("n2", PreVoteResponse(7, 1, False))
        bench.wait(TIMING.election_s_max)
    assert (bench.core.role, bench.core.log.last_index) == (Role.FOLLOWER, 1)


def test_a_vote_from_a_disk_that_has_not_said_which_it_is_forms_no_cluster(tmp_path: Path) -> None:
    bench = Bench(tmp_path, bootstrap=True)
    bench.stand()
    bench.core.peer_greeted("n2", b"")
    for peer_id in ("n1", "n2"):
        bench.core.receive(peer_id, VoteResponse(1, True))
    assert not bench.core.leads
    bench.core.peer_greeted("n2", OTHER_DISK)
    bench.core.receive("n2", VoteResponse(1, True))
    assert bench.core.leads
