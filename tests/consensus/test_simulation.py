"""Hundreds of histories full of faults; and the same harness on broken rules, which it must find."""

from __future__ import annotations

import pytest

from consensus import follower, limits
from consensus.election import Elections
from consensus.errors import ConsensusError
from consensus.follower import Answer
from consensus.leader import Followers
from consensus.log import DurableLog
from consensus.messages import Append, RequestVote
from consensus.stock import Node
from tests.consensus.promises import Violation
from tests.consensus.simulation import Faults, Simulation

SEEDS_PER_TEST = 15


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small windows, batches and caches, so that a short history meets every edge of them."""
    monkeypatch.setattr(limits, "BATCH_ENTRIES_MAX", 4)
    monkeypatch.setattr(limits, "IN_FLIGHT_BATCHES_MAX", 3)
    monkeypatch.setattr(limits, "APPLY_ENTRIES_PER_TICK_MAX", 5)
    monkeypatch.setattr(limits, "LOG_CACHE_ENTRIES_MAX", 8)
    monkeypatch.setattr(limits, "LOG_SCAN_ENTRIES_MAX", 3)
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 4)
    monkeypatch.setattr(limits, "LOG_COMPACTION_STEP_ENTRIES", 4)


def play(seed: int, *, size: int = 3, faults: Faults | None = None, seconds: float = 3.0) -> Simulation:
    try:
        simulation = Simulation(seed, size=size, faults=faults)
        simulation.run(seconds)
        simulation.heal()
    except Exception as error:
        error.add_note(f"seed {seed}, {size} members, {faults}")
        raise
    return simulation


@pytest.mark.parametrize("first_seed", range(0, 60, SEEDS_PER_TEST))
def test_three_members_keep_every_promise(first_seed: int) -> None:
    acknowledged = reads = leaders = deleted = handovers = 0
    for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
        simulation = play(seed)
        acknowledged += sum(each.index is not None for each in simulation.promises.proposals)
        reads += sum(each.passed for each in simulation.reads)
        leaders += len(simulation.promises.leaders)
        handovers += sum(each.leader_id is not None for each in simulation.handovers)
        deleted += any(m.core is not None and m.core.log.first_index > 1 for m in simulation.members)
    # A history in which nothing happens proves nothing.
    assert acknowledged > 80 * SEEDS_PER_TEST
    assert reads > 5 * SEEDS_PER_TEST
    assert leaders > SEEDS_PER_TEST
    assert handovers > 2
    assert deleted > SEEDS_PER_TEST // 2


@pytest.mark.parametrize("first_seed", range(0, 12, 6))
def test_five_members_keep_every_promise(first_seed: int) -> None:
    faults = Faults(loss=0.1, duplication=0.2, crashes_per_s=1.5, partitions_per_s=2.0)
    for seed in range(first_seed, first_seed + 6):
        play(seed, size=5, faults=faults)


def test_one_member_keeps_every_promise() -> None:
    faults = Faults(partitions_per_s=0.0, crashes_per_s=2.0, disk_failure=0.02)
    acknowledged = 0
    for seed in range(10):
        simulation = play(seed, size=1, faults=faults)
        acknowledged += sum(each.index is not None for each in simulation.promises.proposals)
    assert acknowledged > 200


def test_a_seed_is_a_history() -> None:
    first, second = play(3), play(3)
    assert first.promises.applied == second.promises.applied
    assert first.promises.leaders == second.promises.leaders
    assert first.rng.random() == second.rng.random()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thousands_of_histories() -> None:
    for seed in range(10_000, 13_000):
        play(seed, size=5 if seed % 4 == 0 else 3)


# The harness must find broken rules; when it does not, it is the harness that is broken.


def _delete_after_previous(log: DurableLog, commit_index: int, message: Append, terms: list[int]) -> Answer:
    """F2, as stock does it: everything behind prev_index goes, and comes again."""
    conflict = follower._conflict(log, commit_index, message)
    if conflict is not None:
        return conflict
    if log.first_index <= message.prev_index < log.last_index:
        log.truncate_from(message.prev_index + 1)
    for offset, term in enumerate(terms):
        if message.prev_index + 1 + offset == log.last_index + 1:
            log.append(message.prev_index + 1 + offset, term, message.entries[offset])
    return Answer(True, message.prev_index + len(terms))


def _finds_a_violation(seeds: int, faults: Faults) -> bool:
    for seed in range(seeds):
        try:
            play(seed, faults=faults)
        except (Violation, ConsensusError):
            return True
    return False


def test_the_harness_finds_the_stock_rule_for_deleting_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "append", _delete_after_previous)
    assert _finds_a_violation(20, Faults(slow_rate=0.1, duplication=0.2))


def test_the_harness_finds_disks_that_lose_synced_writes() -> None:
    """F7. The machine's losses are those of an honest disk, so that only the log's are new."""
    assert _finds_a_violation(20, Faults(crashes_per_s=4.0, lying_disks=True))


_on_request_vote = Elections._on_request_vote


def _vote_again(voter: Elections, node: Node, message: RequestVote) -> None:
    voter._SyncObj__votedForNodeId = None
    _on_request_vote(voter, node, message)


def test_the_harness_finds_two_votes_in_one_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elections, "_on_request_vote", _vote_again)
    assert _finds_a_violation(200, Faults(slow_rate=0.1, crashes_per_s=2.0, transfers_per_s=3.0))


def test_the_harness_finds_votes_for_logs_that_lack_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Elections, "_is_up_to_date", lambda voter, message: True)
    assert _finds_a_violation(100, Faults(partitions_per_s=3.0))


def test_the_harness_finds_reads_that_do_not_ask_a_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Followers, "quorum_confirmed", lambda followers, membership, read_round: True)
    assert _finds_a_violation(400, Faults(partitions_per_s=3.0))
