"""Two followers need a snapshot, and one of them never gets on: the other gets its share of the rate."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from consensus import limits
from consensus.config import CatchUp
from consensus.messages import AppendResponse, InstallSnapshot, SnapshotResponse
from tests.consensus.cores import TIMING, Bench, Outcome
from tests.consensus.snapshots import MemorySink, MemorySource

CHUNK = 4 << 10
RATE_BYTES_S = 10 * CHUNK
CONTENT = random.Random(3).randbytes(20 * CHUNK)
RETAINED = 256 << 10
HOLDING, BEHIND = ("n1", "n2"), ("n3", "n4")


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 4)
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNK_SIZE_BYTES", CHUNK)
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNKS_IN_FLIGHT_MAX", 2)


class Leader(Bench):
    """n0, which leads; two followers hold its log, and two need what it has deleted."""

    def __init__(self, path: Path) -> None:
        source = MemorySource(CONTENT)
        super().__init__(path, 5, catch_up=CatchUp(RATE_BYTES_S, RETAINED), snapshot_source=source)
        self.elect()
        for _ in range(12):
            self.core.propose(bytes(64 << 10), Outcome())
            self.settle()
            self.hold()
            self.settle()
        source.index = self.machine.applied_index
        for _ in range(3):
            for peer_id in BEHIND:
                prev = self.core.log.first_index
                self.core.receive(peer_id, AppendResponse(self.core.term, False, prev, 2, 0, 0))
            self.wait(TIMING.heartbeat_s * 1.1)

    def hold(self) -> None:
        for peer_id in HOLDING:
            self.acknowledge(peer_id)

    def exchange(self, path: Path, sinks: dict[str, MemorySink], seconds: float) -> int:
        """The followers keep what they can, as follower.keep_chunk does, for that long; how many bytes
        they were sent in all."""
        sent_size_bytes = 0
        followers = {each: Bench(path / each, 5, snapshot_sink=sink) for each, sink in sinks.items()}
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.hold()
            for target, message in self.wait(TIMING.tick_s):
                if target in followers and isinstance(message, InstallSnapshot):
                    sent_size_bytes += len(message.data)
                    followers[target].core.receive("n1", message)
            for peer_id, follower in followers.items():
                for _, answer in follower.settle():
                    if isinstance(answer, SnapshotResponse):
                        self.core.receive(peer_id, answer)
        return sent_size_bytes


@pytest.mark.parametrize(("full", "well"), [BEHIND, BEHIND[::-1]], ids=["first", "last"])
def test_a_full_disk_does_not_keep_another_from_coming_back(tmp_path: Path, full: str, well: str) -> None:
    leader = Leader(tmp_path / "leader")
    sinks = {full: MemorySink(room=CHUNK), well: MemorySink()}
    seconds = 2.5 * len(CONTENT) / RATE_BYTES_S
    sent_size_bytes = leader.exchange(tmp_path, sinks, seconds)
    assert leader.core.leads
    assert sinks[well].kept == CONTENT
    assert sinks[full].kept != CONTENT
    assert sent_size_bytes <= RATE_BYTES_S * (seconds + 1)


def test_both_get_on(tmp_path: Path) -> None:
    leader = Leader(tmp_path / "leader")
    sinks = {each: MemorySink() for each in BEHIND}
    leader.exchange(tmp_path, sinks, len(CONTENT) / RATE_BYTES_S)
    assert all(len(sink.kept) > len(CONTENT) // 4 for sink in sinks.values())
