"""While the disk works on a thread, clients are served, and the messages of members wait in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consensus import limits
from consensus.errors import OutcomeUnknown
from consensus.messages import Append, AppendResponse, Message
from consensus.raft_core import Outgoing
from consensus.turns import Turns
from tests.consensus.cluster import until
from tests.consensus.cores import Bench, Outcome, append, entries
from tests.consensus.rocks import RocksStore

LARGE = b"x" * (limits.SYNCED_AT_ONCE_SIZE_BYTES_MAX + 1)


class SlowStore:
    """A store whose syncs wait for `free`, then fail when there is an `error`."""

    def __init__(self, store: RocksStore) -> None:
        self._store = store
        self.write, self.get, self.scan = store.write, store.get, store.scan
        self.free = threading.Event()
        self.free.set()
        self.error: OSError | None = None
        self.syncs = 0
        self.takes_s = 0.0
        self.threads: list[str] = []

    def sync(self) -> None:
        self.syncs += 1
        self.threads.append(threading.current_thread().name)
        time.sleep(self.takes_s)
        assert self.free.wait(30)
        if self.error is not None:
            raise self.error
        self._store.sync()


class Driven:
    """A core with turns on the running loop, over a store that can be held up."""

    def __init__(self, path: Path) -> None:
        self.bench = Bench(path)
        self.store = SlowStore(self.bench.store)
        self.core = self.bench.core = self.bench.new_core(self.store)
        self.sent: list[tuple[str, Message]] = []
        self.failed: list[BaseException] = []
        self.turns = Turns(
            self.core,
            self.store,
            send=self._send,
            on_settled=lambda: None,
            on_failed=self.failed.append,
        )

    def _send(self, outgoing: Outgoing) -> None:
        self.sent += [(target, each) for target, messages in outgoing for each in messages]

    def receive(self, sender_id: str, message: Message, size_bytes: int = 1) -> bool:
        def take() -> None:
            self.core.receive(sender_id, message)
            self.turns.schedule()

        return self.turns.between(take, size_bytes)

    def answers(self, kind: type[Message]) -> list[Message]:
        return [each for _, each in self.sent if isinstance(each, kind)]


@pytest.fixture
async def driven(tmp_path: Path) -> AsyncIterator[Driven]:
    one = Driven(tmp_path)
    yield one
    one.store.free.set()
    await one.turns.close()


async def test_a_follower_acknowledges_only_after_the_sync_and_hears_nothing_before(driven: Driven) -> None:
    driven.store.free.clear()
    syncs = driven.store.syncs
    driven.receive("n1", append(1, records=entries(2, 1, payload=LARGE)))
    await until(lambda: driven.store.syncs > syncs, "the disk works")
    driven.receive("n1", append(1, (2, 1), entries(3, 1, payload=b"y")))
    assert driven.core.log.last_index == 2
    assert driven.answers(AppendResponse) == []
    driven.store.free.set()
    await until(lambda: len(driven.answers(AppendResponse)) == 2, "both are acknowledged")
    assert [
        each.log_index for each in driven.answers(AppendResponse) if isinstance(each, AppendResponse)
    ] == [
        2,
        3,
    ]
    assert driven.core.log.synced_index == 3


async def test_a_leader_takes_proposals_while_its_disk_works(driven: Driven) -> None:
    driven.bench.elect()
    driven.bench.acknowledge("n1")
    driven.bench.settle()
    driven.store.free.clear()
    syncs = driven.store.syncs
    first, second = Outcome(), Outcome()
    index = driven.core.propose(LARGE, first)
    driven.turns.schedule()
    await until(lambda: driven.store.syncs > syncs, "the disk works")
    assert any(isinstance(each, Append) and each.entries for _, each in driven.sent), "sent ahead of the sync"
    driven.core.propose(b"y", second)
    driven.turns.schedule()
    for peer_id in ("n1", "n2"):
        driven.receive(peer_id, AppendResponse(driven.core.term, True, index, 0, 0, 0))
    assert not first.told
    driven.store.free.set()
    await until(lambda: first.told, "the first is applied")
    await until(lambda: driven.core.log.synced_index == index + 1, "the second is on disk")
    assert not second.told
    for peer_id in ("n1", "n2"):
        driven.receive(peer_id, AppendResponse(driven.core.term, True, index + 1, 0, 0, 0))
    await until(lambda: second.told, "the second is applied")
    assert first.error is None
    assert second.error is None


async def test_a_sync_that_fails_ends_everything(driven: Driven) -> None:
    driven.bench.elect()
    driven.bench.acknowledge("n1")
    driven.bench.settle()
    driven.store.error = OSError("input/output error")
    outcome = Outcome()
    driven.core.propose(LARGE, outcome)
    driven.turns.schedule()
    await until(lambda: driven.failed, "it is told")
    assert driven.failed == [driven.store.error]
    driven.core.stop()
    assert isinstance(outcome.error, OutcomeUnknown)
    syncs = driven.store.syncs
    driven.turns.schedule()
    assert driven.store.syncs == syncs


async def test_what_waits_for_the_disk_has_a_bound(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MESSAGES_WAITING_MAX", 2)
    driven.store.free.clear()
    syncs = driven.store.syncs
    driven.receive("n1", append(1, records=entries(2, 1, payload=LARGE)))
    await until(lambda: driven.store.syncs > syncs, "the disk works")
    heartbeat = append(1, (2, 1))
    assert [driven.receive("n1", heartbeat) for _ in range(3)] == [True, True, False]
    heard: list[str] = []
    assert driven.turns.between(lambda: heard.append("the link is gone"))
    driven.store.free.set()
    await until(lambda: heard, "what holds nothing is never dropped")
    await until(lambda: len(driven.answers(AppendResponse)) == 3, "what waited is answered")


async def test_a_small_write_is_synced_at_once(driven: Driven) -> None:
    driven.receive("n1", append(1, records=entries(2, 1)))
    await until(lambda: driven.answers(AppendResponse), "it is acknowledged")
    assert not any(each.name.startswith("sync") for each in threading.enumerate())


async def test_a_small_write_goes_to_a_slow_disk_on_the_thread_until_it_is_quick_again(
    driven: Driven,
) -> None:
    async def write(index: int) -> str:
        """On which thread entry `index` was synced."""
        driven.receive("n1", append(1, (index - 1, int(index > 2)), entries(index, 1)))
        await until(lambda: driven.core.log.synced_index == index, "it is on disk")
        return driven.store.threads[-1]

    driven.store.takes_s = 10 * limits.SYNCED_AT_ONCE_S_MAX
    loop_thread = threading.current_thread().name
    assert await write(2) == loop_thread, "nobody knows yet"
    assert (await write(3)).startswith("sync")
    driven.store.takes_s = 0.0
    assert (await write(4)).startswith("sync"), "the last one was slow"
    # The real disk below may be slow for a moment, too.
    indexes = iter(range(5, 100))
    while await write(next(indexes)) != loop_thread:
        pass
    assert driven.failed == []


async def test_a_sync_at_once_that_fails_ends_everything(driven: Driven) -> None:
    driven.store.error = OSError("input/output error")
    driven.receive("n1", append(1, records=entries(2, 1)))
    await until(lambda: driven.failed, "it is told")
    assert driven.failed == [driven.store.error]
    assert driven.answers(AppendResponse) == []
