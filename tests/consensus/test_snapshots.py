"""How a leader brings up a follower that needs what its log no longer has: streams, bounds, proofs."""

from __future__ import annotations

import random
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from consensus import limits
from consensus.budget import Budget
from consensus.config import CatchUp
from consensus.errors import MalformedMessage
from consensus.log_sizes import LogSizes
from consensus.messages import Append, AppendResponse, InstallSnapshot, Message, SnapshotResponse
from consensus.snapshot import Snapshot
from tests.consensus.cores import TIMING, Bench, Clock, Outcome, append
from tests.consensus.snapshots import MemorySink, MemorySource

CHUNK = limits.SNAPSHOT_CHUNK_SIZE_BYTES
WINDOW = limits.SNAPSHOT_CHUNKS_IN_FLIGHT_MAX * CHUNK
CONTENT = random.Random(7).randbytes(2 * WINDOW + 1_000)
ENTRY = 64 << 10
RETAINED = 4 * ENTRY


@pytest.fixture(autouse=True)
def _keep_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_RETAINED_ENTRIES", 4)


class Leader(Bench):
    """n0, which leads; n1 has all of its log, and n2 needs what n0 has deleted."""

    def __init__(self, path: Path, rate_bytes_s: int = 1 << 40, content: bytes = CONTENT) -> None:
        self.source = MemorySource(content)
        super().__init__(
            path,
            catch_up=CatchUp(rate_bytes_s, RETAINED),
            snapshot_source=self.source,
            snapshot_sink=MemorySink(),
        )
        self.elect()
        self.acknowledge("n1")
        self.settle()
        self.write(12)
        self.source.index = self.machine.applied_index

    def write(self, count: int) -> None:
        """Entries of 64 KiB, committed by n1."""
        for _ in range(count):
            self.core.propose(bytes(ENTRY), Outcome())
            self.settle()
            self.acknowledge("n1")
            self.settle()

    def refuse(self) -> list[Message]:
        """n2 has entry 1 alone; what it is sent from when that is known."""
        sent: list[Message] = []
        for _ in range(3):
            prev = self.core.log.first_index
            self.core.receive("n2", AppendResponse(self.core.term, False, prev, 2, 0, 0))
            sent += self.to_n2(TIMING.heartbeat_s * 1.1)
        return sent

    def to_n2(self, seconds: float = TIMING.tick_s) -> list[Message]:
        return [each for target, each in self.wait(seconds) if target == "n2"]

    def exchange(self, sink: MemorySink) -> list[InstallSnapshot]:
        """n2 answers everything, as a follower with an empty log does, until nothing more comes."""
        follower = self.follower(sink)
        got: list[InstallSnapshot] = []
        quiet = 0
        while quiet < 20:
            sent = self.to_n2()
            got += [each for each in sent if isinstance(each, InstallSnapshot)]
            quiet = 0 if any(isinstance(each, InstallSnapshot) and each.data for each in sent) else quiet + 1
            for each in sent:
                follower.core.receive("n1", each)
            for target, answer in follower.settle():
                if target == "n1" and isinstance(answer, AppendResponse | SnapshotResponse):
                    self.core.receive("n2", answer)
        return got

    def follower(self, sink: MemorySink) -> Bench:
        path = self.store_path / f"follower-{random.SystemRandom().randrange(1 << 40)}"
        return Bench(path, snapshot_sink=sink)

    store_path: Path


@pytest.fixture
def leader(tmp_path: Path) -> Leader:
    made = Leader(tmp_path / "leader")
    made.store_path = tmp_path
    return made


def chunks(messages: list[Message]) -> list[InstallSnapshot]:
    return [each for each in messages if isinstance(each, InstallSnapshot)]


def test_the_log_is_bounded_however_long_a_member_is_away(leader: Leader) -> None:
    leader.write(40)
    assert leader.core.log.sizes.total <= RETAINED + 2 * ENTRY
    assert leader.core.log.first_index > 30


def test_without_a_source_the_log_is_kept_for_everybody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, catch_up=CatchUp(1, RETAINED))
    bench.elect()
    bench.acknowledge("n1")
    for _ in range(20):
        bench.core.propose(bytes(ENTRY), Outcome())
        bench.settle()
        bench.acknowledge("n1")
    bench.settle()
    assert bench.core.log.first_index == 1


def test_a_follower_gets_the_whole_snapshot_in_chunks(leader: Leader) -> None:
    leader.refuse()
    sink = MemorySink()
    sent = leader.exchange(sink)
    assert sink.kept == CONTENT
    assert sink.finished[0] == sent[0].snapshot
    assert (sent[0].snapshot.index, sent[0].snapshot.digest) == (
        leader.source.index,
        sha256(CONTENT).digest(),
    )
    assert sent[0].snapshot.membership  # As of the snapshot: whoever installs it knows who votes.


def test_a_chunk_proves_nothing(leader: Leader) -> None:
    """F1: neither does the last one; the follower is not counted before its log holds the entry."""
    leader.refuse()
    leader.exchange(MemorySink())
    assert leader.core.match_index("n2") == 0
    leader.acknowledge("n2", leader.source.index)
    assert leader.core.match_index("n2") == leader.source.index
    sent = [each for each in leader.to_n2() if isinstance(each, Append) and each.entries]
    assert not sent or sent[0].prev_index == leader.source.index


def test_after_the_snapshot_the_log_goes_on_from_its_end(leader: Leader) -> None:
    leader.refuse()
    leader.exchange(MemorySink())
    leader.write(3 * limits.LOG_PINNED_FACTOR)  # More than is kept for others.
    leader.acknowledge("n2", leader.source.index)
    sent = [each for each in leader.to_n2() if isinstance(each, Append) and each.entries]
    assert sent[0].prev_index == leader.source.index


def test_a_snapshot_is_worthless_once_the_log_has_outgrown_even_that(leader: Leader) -> None:
    leader.refuse()
    assert leader.source.begun == 1
    leader.write(RETAINED // ENTRY * limits.LOG_PINNED_FACTOR + 10)
    assert leader.core.log.first_index > leader.source.index
    leader.core.receive("n2", SnapshotResponse(leader.core.term, bytes(32), False, 0))
    leader.source.index = leader.machine.applied_index
    leader.to_n2(TIMING.heartbeat_s * 3)
    assert leader.source.begun == 2


@pytest.mark.parametrize("count", [1, limits.SNAPSHOT_CHUNKS_IN_FLIGHT_MAX])
def test_what_is_in_flight_is_bounded(leader: Leader, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_CHUNKS_IN_FLIGHT_MAX", count)
    leader.refuse()
    first = chunks(leader.to_n2(TIMING.heartbeat_s * 1.1))[0]
    leader.core.receive("n2", SnapshotResponse(leader.core.term, first.snapshot.digest, True, 0))
    sent = chunks(leader.to_n2(5.0))
    assert sum(len(each.data) for each in sent) == count * CHUNK
    assert {len(each.data) for each in sent} == {CHUNK, 0}


def test_a_lost_chunk_is_sent_again_from_where_the_follower_is(leader: Leader) -> None:
    leader.refuse()
    first = chunks(leader.to_n2(TIMING.heartbeat_s * 1.1))[0]
    digest = first.snapshot.digest
    leader.core.receive("n2", SnapshotResponse(leader.core.term, digest, True, 0))
    leader.to_n2()
    leader.core.receive("n2", SnapshotResponse(leader.core.term, digest, True, CHUNK))
    leader.to_n2()
    for _ in range(5):  # Everything behind the lost chunk is refused.
        leader.core.receive("n2", SnapshotResponse(leader.core.term, digest, False, CHUNK))
    probes = chunks(leader.to_n2())
    assert [(each.offset, each.data) for each in probes] == [(CHUNK, b"")]
    leader.core.receive("n2", SnapshotResponse(leader.core.term, digest, True, CHUNK))
    assert chunks(leader.to_n2())[0].offset == CHUNK


def test_a_follower_that_kept_a_part_goes_on_there(leader: Leader) -> None:
    leader.refuse()
    sink = MemorySink()
    first = chunks(leader.to_n2(TIMING.heartbeat_s * 1.1))[0]
    sink.offset(first.snapshot)
    sink.write(CONTENT[: 5 * CHUNK])
    sent = leader.exchange(sink)
    assert sink.kept == CONTENT
    assert min(each.offset for each in sent if each.data) == 5 * CHUNK


def test_the_rate_is_kept(tmp_path: Path) -> None:
    leader = Leader(tmp_path / "leader", rate_bytes_s=CHUNK)
    leader.store_path = tmp_path
    leader.refuse()
    began = leader.clock.now
    sink = MemorySink()
    leader.exchange(sink)
    received = len(sink.kept)
    assert received <= CHUNK * (leader.clock.now - began + 1.2) + CHUNK


def test_old_entries_are_sent_within_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And new ones are not held up by it."""
    monkeypatch.setattr(limits, "LOG_CACHE_ENTRIES_MAX", 4)
    leader = Leader(tmp_path / "leader", rate_bytes_s=ENTRY)
    last = leader.core.log.last_index
    leader.core.receive("n2", AppendResponse(leader.core.term, True, leader.core.log.first_index, 0, 0, 0))
    sent = [each for each in leader.to_n2(1.0) if isinstance(each, Append)]
    old_size_bytes = sum(len(record) for each in sent for record in each.entries)
    assert 0 < old_size_bytes < RETAINED
    leader.core.receive("n2", AppendResponse(leader.core.term, True, last, 0, 0, 0))
    leader.core.propose(b"new", Outcome())
    assert any(isinstance(each, Append) and each.entries for each in leader.to_n2())


def test_a_snapshot_that_nobody_fetches_is_freed(leader: Leader) -> None:
    leader.refuse()
    leader.to_n2(TIMING.heartbeat_s * 2)
    held = [leader.source.held]
    for _ in range(int(limits.SNAPSHOT_ABANDONED_S / TIMING.leader_fallback_s * 2) + 4):
        leader.acknowledge("n1")
        leader.wait(TIMING.leader_fallback_s / 2)
    assert leader.core.leads
    assert [*held, leader.source.held] == [True, False]
    leader.write(12)
    assert leader.core.log.first_index > leader.source.index  # Nor is the log kept for it.


def test_a_leader_that_loses_its_place_frees_its_snapshot(leader: Leader) -> None:
    leader.refuse()
    leader.to_n2(TIMING.heartbeat_s * 2)
    held = [leader.source.held]
    leader.core.receive("n1", append(leader.core.term + 1, (1, 0)))
    assert [*held, leader.source.held] == [True, False]


def test_a_snapshot_that_cannot_be_made_harms_nobody(leader: Leader) -> None:
    leader.source.failure = "the disk is nearly full"
    leader.refuse()
    leader.write(3)
    assert leader.core.leads
    assert not leader.source.held
    leader.source.failure = None
    leader.source.index = leader.machine.applied_index
    for _ in range(int(limits.SNAPSHOT_RETRY_S / TIMING.leader_fallback_s * 2) + 4):
        leader.acknowledge("n1")
        leader.core.receive("n2", SnapshotResponse(leader.core.term, bytes(32), False, 0))
        leader.wait(TIMING.leader_fallback_s / 2)
    sink = MemorySink()
    leader.exchange(sink)
    assert sink.kept == CONTENT


def test_a_follower_without_room_goes_on_following(tmp_path: Path) -> None:
    sink = MemorySink(room=10)
    bench = Bench(tmp_path, snapshot_sink=sink)
    snapshot = Snapshot(bytes(32), 100, 50, 1, b"")
    data = bytes(20)
    message = InstallSnapshot(1, snapshot, 0, zlib.crc32(data), data)
    assert bench.answer_to("n1", message) == SnapshotResponse(1, bytes(32), False, 0)
    assert bench.core.leader_id == "n1"


def install(offset: int = 0, data: bytes = b"", size_bytes: int = 100, term: int = 1) -> InstallSnapshot:
    return InstallSnapshot(term, Snapshot(bytes(32), size_bytes, 50, 1, b""), offset, zlib.crc32(data), data)


@pytest.mark.parametrize(
    "message",
    [
        install(90, bytes(11)),
        InstallSnapshot(1, Snapshot(bytes(32), 100, 50, 1, b""), 0, 1, b"abc"),
        InstallSnapshot(1, Snapshot(bytes(32), 100, 50, 2, b""), 0, 0, b""),
        InstallSnapshot(1, Snapshot(bytes(32), 100, 0, 0, b""), 0, 0, b""),
    ],
    ids=["beyond the end", "checksum", "future term", "of nothing"],
)
def test_a_chunk_that_contradicts_itself_has_no_effect(tmp_path: Path, message: InstallSnapshot) -> None:
    sink = MemorySink()
    bench = Bench(tmp_path, snapshot_sink=sink)
    bench.settle()
    with pytest.raises(MalformedMessage):
        bench.core.receive("n1", message)
    assert (bench.core.term, sink.kept) == (0, b"")


def test_chunks_out_of_order_twice_or_of_another_snapshot(tmp_path: Path) -> None:
    sink = MemorySink()
    bench = Bench(tmp_path, snapshot_sink=sink)
    digest = bytes(32)
    assert bench.answer_to("n1", install(10, b"b" * 10)) == SnapshotResponse(1, digest, False, 0)
    assert bench.answer_to("n1", install(0, b"a" * 10)) == SnapshotResponse(1, digest, True, 10)
    assert bench.answer_to("n1", install(0, b"a" * 10)) == SnapshotResponse(1, digest, False, 10)
    assert bench.answer_to("n1", install(10, b"b" * 10)) == SnapshotResponse(1, digest, True, 20)
    assert sink.kept == b"a" * 10 + b"b" * 10
    other = InstallSnapshot(1, Snapshot(b"o" * 32, 100, 60, 1, b""), 0, 0, b"")
    assert bench.answer_to("n1", other) == SnapshotResponse(1, b"o" * 32, True, 0)
    assert sink.kept == b""


def test_an_older_leader_is_told_the_term(tmp_path: Path) -> None:
    sink = MemorySink()
    bench = Bench(tmp_path, snapshot_sink=sink)
    bench.answer_to("n1", append(3))
    assert bench.answer_to("n2", install(0, b"x", term=2)) == SnapshotResponse(3, bytes(32), False, 0)
    assert sink.kept == b""


# The log's size, and a rate.


def test_sizes_of_a_log_are_exact_to_a_segment() -> None:
    chosen = random.Random(3)
    sizes, model, first = LogSizes(), {}, 1
    last = 0
    for _ in range(3_000):
        act = chosen.random()
        if act < 0.9 or last < first:
            last += 1
            model[last] = chosen.choice((10, 1_000, 100_000))
            sizes.append(last, model[last])
        elif act < 0.95:
            first = chosen.randint(first, last)
            sizes.drop_before(first)
        elif last > first:
            last = chosen.randint(max(first, last - 5), last)
            sizes.truncate_from(last + 1)
        slack = 6 * (164 << 10)
        exact = sum(model[index] for index in range(first, last + 1))
        assert exact <= sizes.total + slack
        within = sizes.first_within(500_000)
        if within:
            assert (
                sum(model[index] for index in range(max(first, within), last + 1)) <= 500_000
                or within >= last - 70
            )
            assert sizes.before(within) <= exact + slack


def test_a_budget_is_a_rate() -> None:
    clock = Clock()
    budget = Budget(1_000, clock)
    spent = 0
    for _ in range(100):
        clock.now += 0.1
        while budget.open():
            budget.spend(70)
            spent += 70
    assert 10_000 <= spent <= 10_000 + 200
