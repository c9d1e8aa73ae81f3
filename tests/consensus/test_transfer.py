"""Leadership transfer (Raft thesis section 3.10)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from consensus.errors import NotLeader, TransferFailed
from consensus.messages import Message, RequestVote, TimeoutNow
from tests.consensus.cluster import Cluster
from tests.consensus.cores import TIMING, Bench, Outcome, append


def told_to_stand(sent: list[tuple[str, Message]]) -> list[str]:
    return [target for target, message in sent if isinstance(message, TimeoutNow)]


def leading(path: Path) -> Bench:
    """A leader whose followers have its whole log."""
    bench = Bench(path)
    bench.elect()
    for peer_id in ("n1", "n2"):
        bench.acknowledge(peer_id)
    bench.settle()
    return bench


def test_the_target_is_told_to_stand_once_it_has_everything_and_everything_is_answered(
    tmp_path: Path,
) -> None:
    bench = leading(tmp_path)
    proposal, transfer = Outcome(), Outcome()
    bench.core.propose(b"x", proposal)
    bench.core.transfer("n2", transfer)
    bench.acknowledge("n1")
    assert told_to_stand(bench.settle()) == []
    assert proposal.told
    bench.acknowledge("n2")
    assert told_to_stand(bench.settle()) == ["n2"]
    term = bench.core.term
    bench.answer_to("n2", RequestVote(term + 1, bench.core.log.last_index, term, True))
    assert not bench.core.leads
    assert not transfer.told
    bench.answer_to("n2", append(term + 1))
    bench.settle()
    assert transfer.result == "n2"


def test_no_proposals_meanwhile_and_again_when_it_is_given_up(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    transfer = Outcome()
    bench.core.transfer("n2", transfer)
    with pytest.raises(NotLeader) as refused:
        bench.core.propose(b"x", Outcome())
    assert refused.value.leader_id == "n2"
    with pytest.raises(TransferFailed, match="already"):
        bench.core.transfer("n1", Outcome())
    # The message may be lost, so it is repeated.
    assert len(told_to_stand(bench.wait(TIMING.election_s_min * 1.1))) > 3
    assert isinstance(transfer.error, TransferFailed)
    assert bench.core.leads
    bench.core.propose(b"x", Outcome())


def test_without_a_name_the_most_complete_follower_is_chosen(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    bench.core.propose(b"x", Outcome())
    bench.settle()
    bench.acknowledge("n2")
    bench.settle()
    bench.core.transfer(None, Outcome())
    assert told_to_stand(bench.settle()) == ["n2"]


def test_who_cannot_take_over_is_refused(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    for nobody in ("n9", "n0", ""):
        with pytest.raises(TransferFailed, match="no other voter"):
            bench.core.transfer(nobody, Outcome())
    for peer_id in ("n1", "n2"):
        bench.core.peer_disconnected(peer_id)
    with pytest.raises(TransferFailed, match="connected"):
        bench.core.transfer(None, Outcome())
    bench.core.propose(b"x", Outcome())


def test_a_follower_has_nothing_to_give(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.answer_to("n1", append(1))
    with pytest.raises(NotLeader):
        bench.core.transfer("n1", Outcome())


def test_a_node_that_stops_ends_the_transfer(tmp_path: Path) -> None:
    bench = leading(tmp_path)
    transfer = Outcome()
    bench.core.transfer("n2", transfer)
    bench.core.stop()
    assert isinstance(transfer.error, TransferFailed)


async def test_the_leadership_goes_round_on_real_sockets_and_no_proposal_is_lost(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        count = 0
        for number in (0, 1, 2, 0, 2, 1):
            leader = await cluster.leader()
            pending = [leader.propose(b"%d" % n) for n in range(20)]
            target_id = f"n{number}"
            if leader.leader_id != target_id:
                began = time.monotonic()
                assert await leader.transfer_leadership(target_id) == target_id
                # Well below an election timeout: nobody waited for one.
                assert time.monotonic() - began < TIMING.election_s_min
            await asyncio.gather(*pending)
            count += len(pending)
        last = await cluster.leader()
        assert await last.propose(b"last") == count + 1
        assert cluster.fatal == []
