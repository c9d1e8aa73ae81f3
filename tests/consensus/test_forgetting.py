"""A log gives up entries that are to go (erasure), however few they are."""

from __future__ import annotations

from pathlib import Path

from consensus.log import DurableLog
from consensus.messages import Append, AppendResponse
from tests.consensus.cores import TIMING, Bench, append, entries
from tests.consensus.test_replication import propose, replicating


def test_entries_that_are_to_go_leave_a_log_of_any_length(tmp_path: Path) -> None:
    """However few they are, but as any others: held by every member, and followed by an applied payload."""
    bench = replicating(tmp_path)
    propose(bench, 3)
    bench.settle()
    last_index = bench.core.log.last_index
    bench.core.compact_to(last_index)
    bench.acknowledge("n1")
    bench.wait(TIMING.heartbeat_s * 1.1)
    assert bench.core.log.first_index == 2  # What n2 is known to hold.
    bench.acknowledge("n2")
    bench.wait(TIMING.heartbeat_s * 1.1)
    assert bench.core.log.first_index == last_index
    propose(bench, 1)
    bench.settle()
    bench.acknowledge("n1")
    bench.wait(TIMING.heartbeat_s * 1.1)
    assert bench.core.log.first_index == last_index
    bench.acknowledge("n2")
    bench.wait(TIMING.heartbeat_s * 1.1)
    assert (bench.core.log.first_index, bench.core.log.last_index) == (last_index + 1, last_index + 1)
    late = DurableLog(bench.store)
    assert (late.first_index, late.last_index) == (last_index + 1, last_index + 1)
    propose(bench, 2)
    bench.settle()
    assert bench.core.log.first_index == last_index + 1
    bench.restart()
    assert bench.core.applied_index == last_index + 1


def test_a_follower_forgets_entries_too_and_still_takes_late_messages(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    records = entries(2, *[1] * 10)
    bench.core.receive("n1", Append(1, 1, 0, records, 11, 0, 11))
    bench.core.compact_to(7)
    bench.settle()
    assert bench.core.log.first_index == 8
    late = bench.answer_to("n1", append(1, (1, 0), records[:3]))
    assert late == AppendResponse(1, True, 4, 0, 0, 0)
    assert bench.core.log.first_index == 8
