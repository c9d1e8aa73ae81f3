"""Buckets that are newer in memory than on the disk: what is lost with the memory, and what damage does."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from itertools import islice

import pytest

from stele.format.state_map import BUCKET_HEAD_SIZE_BYTES
from storage import fsck, keys, limits
from storage import seal as sealing
from storage.commands import DropLedger, SetLedger
from storage.errors import InvariantBroken, StorageFailed
from storage.state_map import StateMap
from storage.store import Store
from tests.storage.driver import LEDGER, Driver, committed
from tests.storage.near import Replica, commands_of, near
from tests.storage.test_fsck import store_row

STEPS: list[list[int]] = [list(range(60)), [], list(range(40, 200)), [], [7, 8, 9], []]


@pytest.fixture
def few_are_dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_BUCKETS_KEPT_MAX", 20)
    monkeypatch.setattr(limits, "STATE_WRITE_BACK_MIN", 1)


def killed(driver: Driver) -> None:
    """Everything that was written is there; what was in memory is not."""
    driver.store.engine.flush()
    driver.store.engine.close()
    driver.store._lock.release()


def started_again(driver: Driver) -> None:
    killed(driver)
    driver.store = Store.open(driver.path)


def load(driver: Driver, rounds: int, seed: int = 3) -> None:
    chosen = random.Random(seed)
    for n in range(rounds):
        puts = [driver.put("cars", f"k{key}", {"n": n}) for key in chosen.sample(range(400), 30)]
        committed(driver.one(driver.transact(*puts)))
        if n % 3 == 0:
            committed(driver.one(driver.seal()))


def dirty_of(state_map: StateMap) -> set[int]:
    """Which buckets the disk has not."""
    return state_map.buckets.kept.keys() - state_map.buckets.clean


def root(driver: Driver) -> bytes:
    return driver.store.machine.ledgers[LEDGER].map.root


@pytest.mark.usefixtures("few_are_dirty")
def test_a_killed_node_makes_the_same_map_again(driver: Driver) -> None:
    load(driver, 40)
    before, sealed = root(driver), driver.store.sealed(LEDGER)
    assert dirty_of(driver.store.machine.ledgers[LEDGER].map)
    started_again(driver)
    assert (root(driver), driver.store.sealed(LEDGER)) == (before, sealed)
    load(driver, 20, seed=4)
    before = root(driver)
    started_again(driver)
    assert root(driver) == before
    driver.reopen()
    # After a clean stop the disk has everything.
    assert root(driver) == before
    assert not driver.store.machine.ledgers[LEDGER].map.buckets.kept


@pytest.mark.usefixtures("few_are_dirty")
def test_fsck_knows_which_buckets_the_disk_may_have(driver: Driver) -> None:
    load(driver, 40)
    state = driver.store.machine.ledgers[LEDGER]
    prefix = keys.of_ledger(b"S", state.number)
    stored = dict(driver.store.engine.scan(prefix, keys.end_of(prefix)))
    assert stored
    outdated = [key for key, bucket in stored.items() if is_outdated(driver, key, bucket)]
    assert outdated
    killed(driver)
    assert fsck.check(driver.path).findings == []
    for key in (outdated[0], sorted(stored)[-1]):
        for byte in (0, 1, BUCKET_HEAD_SIZE_BYTES, len(stored[key]) - 1):
            changed = bytearray(stored[key])
            changed[byte] ^= 1
            assert damage_found(driver, key, bytes(changed)) == bucket_of(key), byte
        # Not to be there yet may be right of each bucket by itself.
        assert damage_found(driver, key, None) in (bucket_of(key), f"ledger {LEDGER!r} state map")
        store_row(driver.path, key, stored[key])
    assert fsck.check(driver.path).findings == []
    driver.store = Store.open(driver.path)


def is_outdated(driver: Driver, key: bytes, bucket: bytes) -> bool:
    """Whether the next start has to change it."""
    newest = driver.store.machine.ledgers[LEDGER].map.buckets
    first = int.from_bytes(key[-4:], "big")
    node = newest._tree.bucket_over(first)
    return newest.at(node) != bucket


def bucket_of(key: bytes) -> str:
    return f"ledger {LEDGER!r} state bucket {int.from_bytes(key[-4:], 'big')}"


def damage_found(driver: Driver, key: bytes, changed: bytes | None) -> str:
    """What fsck names. A start finds it too, or puts what is right in its place."""
    before = root(driver)
    store_row(driver.path, key, changed)
    (finding,) = fsck.check(driver.path).findings
    with contextlib.suppress(InvariantBroken):
        driver.store = Store.open(driver.path)
        assert root(driver) == before
        killed(driver)
    return finding.where


@pytest.mark.usefixtures("few_are_dirty")
@pytest.mark.parametrize("said", [lambda size: size + 1, lambda size: 1 << 40, lambda size: None])
def test_what_is_said_to_be_written_is_checked(driver: Driver, said: Callable[[int], int | None]) -> None:
    load(driver, 40)
    state = driver.store.machine.ledgers[LEDGER]
    key, size = keys.state_written(state.number), state.size
    killed(driver)
    value = said(size)
    store_row(driver.path, key, b"\0" if value is None else value.to_bytes(8, "big"))
    assert any("state written" in finding.where for finding in fsck.check(driver.path).findings)
    with pytest.raises(InvariantBroken, match="fsck names"):
        Store.open(driver.path)
    driver.store = Driver(driver.path.with_name("another")).store


def replica_with(monkeypatch: pytest.MonkeyPatch) -> Replica:
    monkeypatch.setattr(sealing, "_packed", near)
    made = Replica()
    for command in commands_of(made, STEPS[:2]):
        made.apply(command)
    made.machine.write_back()
    return made


@pytest.mark.parametrize("changed", [b"", b"\2\1", b"\2"])
def test_the_scrub_checks_what_the_disk_has(monkeypatch: pytest.MonkeyPatch, changed: bytes) -> None:
    """Though nobody is served it, the next start needs it."""
    replica = replica_with(monkeypatch)
    for command in list(commands_of(replica, STEPS))[4:]:
        replica.apply(command)
    assert dirty_of(replica.state.map)
    replica.scrub()
    number = next(iter(replica.stored()))
    batch = replica.disk.batch()
    key = keys.state_bucket(replica.state.number, number)
    batch.put(key, changed) if changed else batch.delete(key)
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match=f"state bucket {number}"):
        replica.scrub()


def test_a_bucket_that_split_is_not_written_over_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rows the disk would lose is found by reading it."""
    replica = replica_with(monkeypatch)
    stored = replica.stored()
    for command in list(commands_of(replica, STEPS))[4:]:
        replica.apply(command)
    batch = replica.disk.batch()
    for number in stored:
        batch.put(keys.state_bucket(replica.state.number, number), stored[number][:-1] + b"\xff")
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match=r"state bucket \d+ is not the one that was sealed"):
        replica.machine.write_back()
    # And after that nothing is, until a start looks at it.
    replica.machine.write_back()
    with pytest.raises(InvariantBroken, match="fsck names"):
        replica.restart()


@pytest.fixture
def none_gets_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_REDO_MAX", 0)


@pytest.mark.usefixtures("none_gets_old")
def test_what_was_written_back_stays_while_there_is_room(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read again, it is let go before anything else, and it is not in the way of a drop."""
    load(driver, 40)
    buckets = driver.store.machine.ledgers[LEDGER].map.buckets
    assert len(buckets.clean) > 10
    with monkeypatch.context() as patch:
        patch.setattr(StateMap, "_stored", lambda *_: pytest.fail("a bucket was read"))
        load(driver, 8, seed=4)
    dirty = dirty_of(driver.store.machine.ledgers[LEDGER].map)
    monkeypatch.setattr(limits, "STATE_BUCKETS_KEPT_MAX", len(dirty) + 5)
    monkeypatch.setattr(limits, "STATE_REDO_MAX", 262_144)
    committed(driver.one(driver.transact(driver.put("cars", "k1", {}))))
    assert (dirty_of(driver.store.machine.ledgers[LEDGER].map), len(buckets.clean)) == (dirty, 5)
    before = root(driver)
    started_again(driver)
    assert root(driver) == before
    driver.one(SetLedger(LEDGER, False))
    driver.one(DropLedger(LEDGER))


@pytest.mark.usefixtures("none_gets_old")
def test_damage_under_a_clean_bucket_is_found_and_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory is as of the newest seal, whatever becomes of the disk."""
    monkeypatch.setattr(sealing, "_packed", near)
    replica = Replica()
    commands = commands_of(replica, [list(range(60)), [], [1], list(range(60)), []])
    for command in islice(commands, 5):
        replica.apply(command)
    number, bucket = next(iter(replica.stored().items()))
    assert len(replica.state.map.buckets.clean) > 1
    batch = replica.disk.batch()
    batch.put(keys.state_bucket(replica.state.number, number), bucket[:-1] + bytes([bucket[-1] ^ 1]))
    replica.disk.write(batch)
    with pytest.raises(InvariantBroken, match=f"state bucket {number}"):
        replica.scrub()
    for command in commands:
        replica.apply(command)
    replica.machine.write_back()
    replica.scrub()
    root = replica.state.map.root
    replica.restart()
    assert replica.state.map.root == root


def test_nothing_of_a_dropped_ledger_is_written_back(driver: Driver) -> None:
    load(driver, 6)
    driver.one(SetLedger(LEDGER, False))
    number = driver.store.machine.ledgers[LEDGER].number
    driver.one(DropLedger(LEDGER))
    driver.reopen()
    for kind in (b"S", b"W"):
        prefix = keys.of_ledger(kind, number)
        assert list(driver.store.engine.scan(prefix, keys.end_of(prefix))) == []


def test_after_a_failed_write_nothing_more_is_written_back(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal is in memory alone: its buckets on the disk would be those of another journal."""
    load(driver, 6)
    before = root(driver)

    def fail(*_arguments: object, **_options: object) -> None:
        raise StorageFailed("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(driver.store.engine, "write", fail)
        with pytest.raises(StorageFailed):
            driver.apply(driver.transact(driver.put("cars", "k1", {"late": 1})), driver.seal())
    driver.reopen()
    assert root(driver) == before
    assert fsck_is_clean(driver)


def fsck_is_clean(driver: Driver) -> bool:
    driver.store.close()
    findings = fsck.check(driver.path).findings
    driver.store = Store.open(driver.path)
    return findings == []
