"""A member whose disk was restored from an old copy: the same incarnation, without what it acknowledged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from consensus import limits
from consensus.membership import Membership
from consensus.messages import AppendResponse, VoteResponse
from tests.consensus.cores import TIMING, Bench, Outcome, append, members
from tests.consensus.test_changes import commit, membership_record
from tests.consensus.test_incarnations import with_known_disks

HELD = 2


def deny(bench: Bench, heartbeats: int) -> None:
    """n1's log ends at entry HELD, whatever it is asked about; n2 answers as it should."""
    for _ in range(heartbeats):
        bench.wait(1.1 * TIMING.heartbeat_s)
        asked = bench.core.log.last_index
        bench.core.receive("n1", AppendResponse(bench.core.term, False, asked, HELD + 1, 0, 0))
        bench.acknowledge("n2")
        bench.settle()


def test_who_lacks_what_it_acknowledged_loses_its_vote_until_it_has_caught_up(tmp_path: Path) -> None:
    bench = with_known_disks(tmp_path)
    before = bench.core.membership
    bench.core.peer_connected("n1")  # After its restart.
    deny(bench, limits.DENIALS_BEFORE_REPORT - 1)
    assert bench.core.membership == before
    deny(bench, 2)
    n1 = bench.core.membership["n1"]
    assert (n1.voter, n1.returning, n1.incarnation) == (False, True, before["n1"].incarnation)
    assert bench.core.match_index("n1") == 0
    assert bench.core.membership_committed
    commit(bench, "n1", "n2")
    bench.settle()
    commit(bench, "n1", "n2")
    assert bench.core.membership == before


def test_what_was_forgotten_does_not_commit_anything(tmp_path: Path) -> None:
    bench = with_known_disks(tmp_path)
    bench.core.propose(b"x", Outcome())
    bench.settle()
    committed = bench.core.commit_index
    bench.core.peer_connected("n1")
    for _ in range(limits.DENIALS_BEFORE_REPORT + 1):
        bench.wait(1.1 * TIMING.heartbeat_s)
        bench.core.receive("n1", AppendResponse(bench.core.term, False, committed, HELD + 1, 0, 0))
        bench.acknowledge("n2", committed)
        bench.settle()
    assert not bench.core.membership["n1"].voter
    bench.acknowledge("n1")  # Of the learner that it is now.
    bench.settle()
    assert bench.core.commit_index == committed


@pytest.mark.parametrize("late", [1, limits.DENIALS_BEFORE_REPORT - 1])
def test_answers_that_come_late_take_no_vote(tmp_path: Path, late: int) -> None:
    bench = with_known_disks(tmp_path)
    before = bench.core.membership
    bench.core.peer_connected("n1")
    for _ in range(3):
        deny(bench, late)
        bench.acknowledge("n1")
        bench.core.peer_connected("n1")
    assert bench.core.membership == before


def test_a_leader_that_has_lost_its_vote_gets_it_back(tmp_path: Path) -> None:
    """It was elected before it knew that the others had committed that; nobody else would give it back."""
    bench = Bench(tmp_path)
    known = members(3, known=True)
    own = msgspec.structs.replace(known["n0"], incarnation=bench.core.incarnation)
    before = Membership((own, known["n1"], known["n2"]))
    records = [membership_record(2, 1, before), membership_record(3, 1, before.without_vote("n0"))]
    bench.answer_to("n1", append(1, records=tuple(records), commit_index=2))
    assert not bench.core.membership["n0"].voter
    bench.stand()
    for peer_id in ("n1", "n2"):
        bench.core.receive(peer_id, VoteResponse(bench.core.term, True))
    bench.settle()
    assert bench.core.leads
    commit(bench, "n1", "n2")
    assert (bench.core.membership, bench.core.membership_committed) == (before, False)
    commit(bench, "n1", "n2")
    assert (bench.core.membership, bench.core.membership_committed) == (before, True)
