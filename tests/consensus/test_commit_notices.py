"""How followers learn what is committed: with the next entries, or else in messages of their own."""

from __future__ import annotations

from pathlib import Path

from consensus import limits
from tests.consensus.test_replication import appends_to, propose, replicating


def test_an_idle_follower_learns_the_commit_index_without_waiting_for_a_heartbeat(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    propose(bench)
    appends_to(bench, "n1")
    bench.acknowledge("n1")
    [message] = appends_to(bench, "n1", limits.COMMIT_NOTICE_INTERVAL_S)
    assert (message.commit_index, message.entries) == (3, ())


def test_messages_that_only_tell_of_commits_are_seldom(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    bench.wait(limits.COMMIT_NOTICE_INTERVAL_S)
    told = 0
    for _ in range(20):  # All within a moment: each entry is committed before the next one comes.
        propose(bench)
        appends_to(bench, "n1")
        bench.acknowledge("n1")
        told += len(appends_to(bench, "n1"))
    assert told <= 1
    [message] = appends_to(bench, "n1", limits.COMMIT_NOTICE_INTERVAL_S)
    assert (message.commit_index, message.entries) == (bench.core.log.last_index, ())


def test_while_entries_tell_of_commits_no_other_messages_do(tmp_path: Path) -> None:
    bench = replicating(tmp_path)
    told = 0
    for _ in range(20):
        propose(bench)
        appends_to(bench, "n1")
        bench.acknowledge("n1")
        told += len(appends_to(bench, "n1", limits.COMMIT_NOTICE_INTERVAL_S * 0.9))
    assert told <= 2  # One before the first entry that tells, and a heartbeat.
    [message] = appends_to(bench, "n1", limits.COMMIT_NOTICE_INTERVAL_S)
    assert (message.commit_index, message.entries) == (bench.core.log.last_index, ())
