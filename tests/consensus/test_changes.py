"""Membership changes on a core: when one may be made, who counts, and what happens to a lost disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus import limits, membership, record
from consensus.config import Role
from consensus.errors import MalformedMessage, NotLeader, OutcomeUnknown, TransferFailed
from consensus.log import DurableLog
from consensus.membership import Member, Membership, MembershipRefused
from consensus.messages import (
    Append,
    Contacts,
    PreVote,
    PreVoteResponse,
    RequestVote,
    TimeoutNow,
    VoteResponse,
)
from consensus.record import Kind
from tests.consensus.cores import TIMING, Bench, Outcome, append, entries, members

NEWCOMER = Member("n3", "z3", "h", 7503)
OTHER_DISK = b"o" * 16


def leading(path: Path, size: int = 3) -> Bench:
    """n0 leads, and its no-op is committed."""
    bench = Bench(path, size)
    bench.elect()
    commit(bench)
    return bench


def commit(bench: Bench, *ids: str) -> None:
    """These acknowledge everything (n1, when none are named)."""
    for peer_id in ids or ("n1",):
        bench.acknowledge(peer_id)
    bench.settle()


def greet(bench: Bench, peer_id: str, incarnation: bytes) -> None:
    bench.core.peer_greeted(peer_id, incarnation)
    bench.core.peer_connected(peer_id)


def refusal(call: object, *arguments: object) -> str:
    with pytest.raises(MembershipRefused) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.reason


def membership_record(index: int, term: int, changed: Membership) -> bytes:
    return record.encode(index, term, Kind.MEMBERSHIP, membership.encode(changed))


# One change at a time (F9).


def test_no_change_before_the_no_op_of_the_term_is_committed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    assert refusal(bench.core.add_learner, NEWCOMER, Outcome()) == "not-ready"
    commit(bench)
    bench.core.add_learner(NEWCOMER, Outcome())


def test_no_change_while_another_is_not_committed(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    first, second = Outcome(), Outcome()
    bench.core.remove("n2", first)
    assert refusal(bench.core.add_learner, NEWCOMER, second) == "change-in-progress"
    bench.settle()
    assert not first.told
    commit(bench)
    assert (first.told, first.error) == (True, None)
    bench.core.add_learner(NEWCOMER, second)


def test_only_a_leader_that_stays_changes_anything(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(NotLeader):
        bench.core.remove("n2", Outcome())
    bench.elect()
    commit(bench)
    bench.core.transfer("n1", Outcome())
    assert refusal(bench.core.remove, "n2", Outcome()) == "not-ready"


def test_a_change_that_another_leader_overwrites_is_forgotten(tmp_path: Path) -> None:
    """Thesis section 4.1: a server goes back to the membership before."""
    bench = leading(tmp_path)
    outcome = Outcome()
    bench.core.remove("n2", outcome)
    bench.settle()
    assert bench.core.membership.ids == {"n0", "n1"}
    index = bench.core.membership_index
    term = bench.core.term + 1
    bench.answer_to("n1", append(term, (index - 1, 1), entries(index, term), commit_index=index))
    assert isinstance(outcome.error, OutcomeUnknown)
    assert bench.core.membership.ids == {"n0", "n1", "n2"}
    assert bench.core.membership_committed


def test_no_removal_that_the_rest_could_not_commit(tmp_path: Path) -> None:
    """n2 is silent: without n1, n0 would wait for it, for ever if n2 has lost its disk."""
    bench = leading(tmp_path)
    assert refusal(bench.core.remove, "n1", Outcome()) == "quorum-at-risk"
    bench.acknowledge("n2")
    bench.core.peer_disconnected("n2")
    assert refusal(bench.core.remove, "n1", Outcome()) == "quorum-at-risk"
    bench.core.peer_connected("n2")
    bench.core.remove("n1", Outcome())
    assert bench.core.membership.ids == {"n0", "n2"}


def test_a_silent_voter_can_be_removed(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.remove("n2", Outcome())
    assert bench.core.membership.ids == {"n0", "n1"}


# Who counts.


def test_a_removed_voter_is_not_counted_any_more(tmp_path: Path) -> None:
    bench = leading(tmp_path, size=4)
    commit(bench, "n2")
    bench.core.remove("n3", Outcome())
    bench.settle()
    before = bench.core.commit_index
    commit(bench, "n3")
    assert bench.core.commit_index == before
    commit(bench, "n1")
    assert bench.core.commit_index == before + 1


def test_a_removed_member_hears_that_it_is_committed_and_then_nothing(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    commit(bench, "n1", "n2")
    bench.core.remove("n2", Outcome())
    sent = bench.settle()
    assert any(target == "n2" and isinstance(each, Append) and each.entries for target, each in sent)
    bench.acknowledge("n2")
    bench.acknowledge("n1")
    last = [each for target, each in bench.settle() if target == "n2"]
    assert [each.commit_index for each in last if isinstance(each, Append)] == [bench.core.commit_index]
    assert not any(target == "n2" for target, _ in bench.wait(1.0))


def test_a_learner_gets_the_log_and_is_not_counted(tmp_path: Path) -> None:
    bench = leading(tmp_path, size=1)
    bench.core.add_learner(NEWCOMER, Outcome())
    greet(bench, "n3", OTHER_DISK)
    sent = bench.wait(2 * TIMING.heartbeat_s)
    assert bench.core.membership_committed
    assert any(target == "n3" and isinstance(each, Append) for target, each in sent)
    bench.core.propose(b"x", Outcome())
    bench.settle()
    assert bench.core.commit_index == bench.core.log.last_index
    bench.wait(2 * TIMING.leader_fallback_s)
    assert bench.core.leads


def test_a_learner_is_promoted_when_it_has_caught_up(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.add_learner(NEWCOMER, Outcome())
    bench.settle()
    commit(bench)
    assert refusal(bench.core.promote, "n3", Outcome()) == "not-caught-up"
    greet(bench, "n3", OTHER_DISK)
    bench.settle()
    assert bench.core.membership["n3"].incarnation == OTHER_DISK
    commit(bench)
    assert refusal(bench.core.promote, "n3", Outcome()) == "not-caught-up"
    bench.acknowledge("n3", 1)
    for _ in range(limits.CAUGHT_UP_LAG_ENTRIES_MAX):
        bench.core.propose(b"x", Outcome())
    assert refusal(bench.core.promote, "n3", Outcome()) == "not-caught-up"
    commit(bench, "n1", "n3")
    bench.core.promote("n3", Outcome())
    commit(bench)
    assert not bench.core.membership_committed  # Three of four.
    commit(bench, "n2")
    assert (bench.core.membership_committed, len(bench.core.membership.voters)) == (True, 4)


def test_a_learner_never_stands(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    without_me = members(3).removed("n0").with_learner(Member("n4", "", "h", 1))
    lost = members(3, known=True).with_incarnation("n0", bench.core.incarnation)
    for changed in (lost, without_me):
        index = bench.core.log.last_index + 1
        row = membership_record(index, 1, changed)
        bench.answer_to("n1", append(1, (index - 1, bench.core.log.last_term), (row,), commit_index=index))
        assert bench.wait(3 * TIMING.election_s_max) == []
        bench.core.receive("n1", TimeoutNow(1))
        assert bench.settle() == []
        assert (bench.core.role, bench.core.leader_id) == (Role.FOLLOWER, None)


def test_a_removed_server_votes_and_stands_until_that_is_committed(tmp_path: Path) -> None:
    """Thesis section 4.2.2 and figure 4.6: its log may be the only one that is new enough."""
    bench = Bench(tmp_path, 2)
    row = membership_record(2, 1, members(2).removed("n0"))
    bench.answer_to("n1", append(1, (1, 0), (row,)))
    asked = [each for target, each in bench.wait(2 * TIMING.election_s_max) if target == "n1"]
    assert isinstance(asked[0], PreVote)
    assert bench.core.role is Role.FOLLOWER  # It does not count itself.
    bench.core.receive("n1", PreVoteResponse(1, 2, True))
    assert any(isinstance(each, RequestVote) for _, each in bench.settle())
    bench.core.receive("n1", VoteResponse(2, True))
    assert bench.core.leads
    with pytest.raises(NotLeader):
        bench.core.propose(b"x", Outcome())
    commit(bench)
    assert bench.core.membership_committed
    assert bench.core.role is Role.FOLLOWER
    assert bench.core.departed


def test_a_leader_that_removes_itself_hands_over_once_that_is_committed(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    commit(bench, "n2")
    outcome = Outcome()
    bench.core.remove("n0", outcome)
    with pytest.raises(NotLeader):
        bench.core.propose(b"x", Outcome())
    bench.settle()
    bench.acknowledge("n1")
    assert bench.settle() == [] or not bench.core.membership_committed  # One of two others.
    assert bench.core.leads
    bench.acknowledge("n2")
    sent = bench.settle()
    assert (outcome.told, outcome.error) == (True, None)
    assert ("n1", TimeoutNow(bench.core.term)) in sent
    assert (bench.core.role, bench.core.departed) == (Role.FOLLOWER, True)
    assert bench.wait(3 * TIMING.election_s_max) == []


def test_the_last_voter_stays(tmp_path: Path) -> None:
    bench = leading(tmp_path, size=1)
    assert refusal(bench.core.remove, "n0", Outcome()) == "last-voter"


def test_the_leadership_goes_to_voters_only(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.add_learner(NEWCOMER, Outcome())
    greet(bench, "n3", OTHER_DISK)
    commit(bench)
    commit(bench)
    with pytest.raises(TransferFailed):
        bench.core.transfer("n3", Outcome())
    for peer_id in ("n1", "n2"):
        bench.core.peer_disconnected(peer_id)
    with pytest.raises(TransferFailed, match="no other voter"):
        bench.core.transfer(None, Outcome())


def test_learners_keep_no_leader_in_office_and_confirm_no_read(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.add_learner(NEWCOMER, Outcome())
    greet(bench, "n3", OTHER_DISK)
    commit(bench)
    commit(bench)
    read = Outcome()
    bench.core.read(read)
    bench.settle()
    bench.acknowledge("n3", read_round=bench.core.reads.round)
    bench.settle()
    assert not read.told
    bench.clock.now += TIMING.leader_fallback_s / 2
    for _ in range(int(TIMING.leader_fallback_s / TIMING.heartbeat_s) + 2):
        bench.acknowledge("n3", read_round=bench.core.reads.round)
        bench.wait(TIMING.heartbeat_s)
    assert not bench.core.leads


# The log keeps it.


def test_the_membership_survives_restart_and_compaction(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.remove("n2", Outcome())
    bench.settle()
    commit(bench)
    changed, index = bench.core.membership, bench.core.membership_index
    for _ in range(3):
        bench.core.propose(b"x", Outcome())
    commit(bench)
    for first in (index, index + 2):
        log = DurableLog(bench.store)
        assert (log.memberships.at(index), log.memberships.at(index - 1)) != (None, None)
        log.delete_before(first)
        log.append_new(log.current_term, Kind.NO_OP, b"")
        log.sync()
        again = DurableLog(bench.store)
        assert again.memberships.latest is not None
        assert (again.memberships.latest.index, again.memberships.latest.membership) == (index, changed)
        assert again.memberships.at(again.first_index) == again.memberships.latest


def test_an_entry_that_is_no_membership_is_refused_before_it_changes_anything(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    wrong = record.encode(2, 1, Kind.MEMBERSHIP, membership.encode(Membership()))
    with pytest.raises(MalformedMessage):
        bench.core.receive("n1", append(1, (1, 0), (wrong,)))
    assert (bench.core.term, bench.core.log.last_index) == (0, 1)


# Who may be reached.


def test_a_member_that_was_away_learns_whom_to_let_in(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    newer = members(3).removed("n2").with_learner(NEWCOMER)
    bench.core.receive("n1", Contacts(9, newer))
    assert bench.core.known_memberships == (members(3), newer)
    assert bench.core.membership == members(3)
    bench.core.receive("n1", Contacts(8, members(1)))
    assert bench.core.known_memberships[-1] == newer
    bench.core.peer_connected("n1")
    told = [each for step in bench.core.settle() for target, sent in step for each in sent if target == "n1"]
    assert told[0] == Contacts(1, members(3))
