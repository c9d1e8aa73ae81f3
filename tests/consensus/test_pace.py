"""Bringing up a member that is behind costs little while clients write, and ends all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus import limits
from consensus.budget import Budget
from tests.consensus.cores import TIMING, Bench, Clock
from tests.consensus.test_replication import appends_to, propose

RATE_BYTES_S_MAX = 100 << 20
MIB = 1 << 20


def spent_a_second(written_bytes_s: int, *, files: bool = False) -> float:
    """How many bytes a second are allowed while so many are written."""
    clock = Clock()
    budget = Budget(RATE_BYTES_S_MAX, clock)
    spent = written = 0
    for step in range(200):
        clock.now += 0.05
        written += written_bytes_s // 20
        budget.pace(written)
        while budget.open():
            (budget.spend_on_files if files else budget.spend)(10_000)
            spent += 10_000 if step >= 100 else 0
    return spent / 5


@pytest.mark.parametrize(
    ("written_bytes_s", "allowed_bytes_s"),
    [
        (0, RATE_BYTES_S_MAX),
        (limits.CATCH_UP_WRITTEN_BYTES_S_MIN // 2, RATE_BYTES_S_MAX),
        (100_000, limits.CATCH_UP_PACED_RATE_BYTES_S_MIN),
        (5 * MIB, 5 * MIB * limits.CATCH_UP_PACE_FACTOR),
        (90 * MIB, RATE_BYTES_S_MAX),
    ],
)
def test_who_is_behind_gets_more_than_is_written_and_not_all_that_is_allowed(
    written_bytes_s: int, allowed_bytes_s: int
) -> None:
    assert spent_a_second(written_bytes_s) == pytest.approx(allowed_bytes_s, rel=0.05)


def test_files_may_go_faster_and_never_faster_than_is_allowed() -> None:
    paced = limits.CATCH_UP_PACED_RATE_BYTES_S_MIN * limits.SNAPSHOT_PACE_FACTOR
    assert spent_a_second(100_000, files=True) == pytest.approx(paced, rel=0.05)
    assert spent_a_second(0, files=True) == pytest.approx(RATE_BYTES_S_MAX, rel=0.05)
    assert spent_a_second(60 * MIB, files=True) == pytest.approx(RATE_BYTES_S_MAX, rel=0.05)


def sent_to_n1(bench: Bench, seconds: float, *, answers: bool) -> int:
    """Bytes of entries that go to n1 while a client writes and n2 has everything."""
    size_bytes = 0
    for _ in range(round(seconds / TIMING.heartbeat_s)):
        propose(bench, 1, bytes(MIB // 40))
        for message in appends_to(bench, "n1", TIMING.heartbeat_s):
            size_bytes += sum(map(len, message.entries))
            if answers:
                bench.acknowledge("n1", message.prev_index + len(message.entries))
        bench.acknowledge("n2")
    return size_bytes


def test_entries_that_are_in_memory_go_at_the_pace_too_until_little_is_missing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.elect()
    bench.acknowledge("n2")
    propose(bench, 12, bytes(MIB))
    bench.acknowledge("n2")
    sent_to_n1(bench, 2.0, answers=False)
    bench.core.peer_connected("n1")
    bench.acknowledge("n1", 2)  # It comes back, and this is all it has.
    for _ in range(2):
        paced = sent_to_n1(bench, 2.0, answers=True)
        assert paced == pytest.approx(2 * limits.CATCH_UP_PACED_RATE_BYTES_S_MIN, rel=0.3)
    sent_to_n1(bench, 10.0, answers=True)
    assert bench.core.caught_up("n1")
    propose(bench, 3, bytes(MIB))  # A member that is not behind gets everything at once.
    sent = appends_to(bench, "n1")
    assert sum(len(each) for message in sent for each in message.entries) > 3 * MIB
