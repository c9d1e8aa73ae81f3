"""F9 of CONSENSUS.md: two membership changes at once, and two leaders in one term.

PySyncObj means to allow one at a time, but never sets the index that its guard compares.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.config import Role
from consensus.errors import NotLeader
from consensus.membership import MembershipRefused
from consensus.messages import AppendResponse, PreVoteResponse, VoteResponse
from tests.consensus.cores import TIMING, Bench, Outcome, append
from tests.consensus.stock_node import NO_OP, StockNode


def test_f9_stock_elects_two_leaders_in_one_term() -> None:
    """n0 begins to remove n1 and n2, and is cut off before either has heard of it."""
    n0 = StockNode()
    assert n0.elect() == 1
    n0.receive("n1", type="next_node_idx", next_node_idx=3, reset=False, success=True)
    n0.engine.doTick()
    assert n0.commit_index == n0.last_index == 2  # The no-op of its term.
    n0.engine.removeNodeFromCluster(n0.peers["n1"])
    n0.engine.removeNodeFromCluster(n0.peers["n2"])
    n0.engine.doTick()
    assert n0.last_index == 4
    assert n0.engine.otherNodes == set()
    # n1 and n2, which know of nothing, elect n1, at the second attempt.
    n1 = StockNode(node_id="n1")
    n1.append("n0", 1, (1, 0), [(NO_OP, 2, 1)], commit=2)
    for _ in range(2):
        n1.engine._SyncObj__raftElectionDeadline = 0
        n1.engine.doTick()
    n1.receive("n2", type="response_vote", term=3)
    # n0 heard the first attempt. Alone in its cluster, it stands, and elects itself.
    n0.receive("n1", type="request_vote", term=2, last_log_index=2, last_log_term=1)
    assert not n0.engine._isLeader()
    n0.engine._SyncObj__raftElectionDeadline = 0
    n0.engine.doTick()
    leaders = [(each.engine._isLeader(), each.engine.raftCurrentTerm) for each in (n0, n1)]
    assert leaders == [(True, 3), (True, 3)]


def test_f9_the_second_change_waits_and_one_alone_splits_nothing(tmp_path: Path) -> None:
    """The same history: n0 may begin one of the two changes only, and then needs n2, as n1 does."""
    bench = Bench(tmp_path)
    bench.elect()
    with pytest.raises(MembershipRefused) as refused:
        bench.core.remove("n1", Outcome())  # Before the no-op of its term is committed.
    assert refused.value.reason == "not-ready"
    bench.acknowledge("n1")
    bench.acknowledge("n2")
    bench.settle()
    bench.core.remove("n1", Outcome())
    with pytest.raises(MembershipRefused) as refused:
        bench.core.remove("n2", Outcome())
    assert refused.value.reason == "change-in-progress"
    bench.settle()
    assert bench.core.membership.voter_ids == {"n0", "n2"}
    # n1 leads term 2 with the vote of n2, and tells n0 so before it is cut off again.
    assert bench.answer_to("n1", append(2, (9, 2))) == AppendResponse(2, False, 9, 4, 0, 0)
    assert bench.core.role is Role.FOLLOWER
    bench.wait(3 * TIMING.election_s_max)
    for _ in range(3):
        bench.core.receive("n1", PreVoteResponse(2, 3, True))
        bench.core.receive("n1", VoteResponse(2, True))
        bench.settle()
    assert (bench.core.role, bench.core.term) == (Role.FOLLOWER, 2)
    with pytest.raises(NotLeader):
        bench.core.remove("n2", Outcome())


def test_f9_a_new_leader_changes_nothing_before_it_knows_what_its_predecessor_changed(tmp_path: Path) -> None:
    """Ongaro's correction of 2015: the change of an older term may be committed or not; the no-op decides."""
    bench = Bench(tmp_path, size=4)
    bench.elect()
    for peer_id in ("n1", "n2"):
        bench.acknowledge(peer_id)
    bench.settle()
    bench.core.remove("n3", Outcome())
    bench.settle()
    bench.answer_to("n1", append(2, (9, 2)))
    while not bench.core.leads:
        bench.wait(TIMING.tick_s)
        for peer_id in ("n1", "n2"):
            bench.core.receive(peer_id, PreVoteResponse(bench.core.term, bench.core.term + 1, True))
            bench.core.receive(peer_id, VoteResponse(bench.core.term, True))
    with pytest.raises(MembershipRefused) as refused:
        bench.core.remove("n2", Outcome())
    assert refused.value.reason == "change-in-progress"
    for peer_id in ("n1", "n2"):
        bench.acknowledge(peer_id)
    bench.settle()
    bench.core.remove("n2", Outcome())
