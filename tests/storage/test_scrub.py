"""The scrub of a store: sound ledgers pass, and an altered tile is found before its root is signed."""

from __future__ import annotations

import pytest

from stele.format.tiles import TILE_WIDTH
from storage import keys
from storage.engine import Batch
from storage.errors import InvariantBroken
from storage.scrub import check_block, check_bucket_at, check_checkpoint
from storage.store import Store
from tests.storage.driver import LEDGER, Driver


def scrub(driver: Driver, buckets_min: int = 4) -> None:
    store = driver.store
    state = store.machine.ledgers[LEDGER]
    for seq in range(state.size):
        check_block(store.engine, state, seq)
    following = check_bucket_at(store.engine, state, 0)
    buckets = 0
    while following is not None:
        buckets += 1
        following = check_bucket_at(store.engine, state, following)
    assert buckets >= buckets_min


def fill(driver: Driver) -> None:
    """Two full tiles and a bit, with many revisions of few keys, deletes among them."""
    for n in range(2 * TILE_WIDTH + 20):
        puts = [driver.put("cars", f"k{n % 11}", {"n": n}), driver.put("cars", f"k{n % 7}", {"m": n})]
        driver.one(driver.transact(*puts))
        if n % 5 == 0:
            driver.one(driver.transact(driver.delete("cars", f"k{n % 11}")))
    driver.one(driver.seal())


def flip_tile(driver: Driver, index: int) -> None:
    store, number = driver.store, driver.store.machine.ledgers[LEDGER].number
    tile = bytearray(store.engine.get(keys.tile(number, 0, index)) or b"")
    tile[40] ^= 1
    batch = Batch()
    batch.put(keys.tile(number, 0, index), bytes(tile))
    store.engine.write(batch)


def test_a_sound_store_passes(driver: Driver) -> None:
    fill(driver)
    scrub(driver, buckets_min=0)  # They are in memory.
    driver.reopen()
    scrub(driver)
    # What is revised after the newest seal waits for the next one: the buckets are as of the seal.
    driver.one(driver.transact(driver.put("cars", "k1", {"late": True})))
    driver.one(driver.transact(*(driver.put("cars", f"new{n}", {"n": n}) for n in range(50))))
    scrub(driver)
    # Also while the next seal is being worked ahead of.
    driver.store.machine.work_ahead([LEDGER], keys_min=1)
    assert driver.store.machine.ledgers[LEDGER].map.staged_rows > 0
    scrub(driver)
    driver.one(driver.seal())
    scrub(driver)


@pytest.mark.parametrize("index", [0, 1])
def test_an_altered_tile_is_found_while_it_runs(driver: Driver, index: int) -> None:
    fill(driver)
    flip_tile(driver, index)
    with pytest.raises(
        InvariantBroken, match=f"tile {index} of level 0 is not the one|is not the one in the"
    ):
        scrub(driver)


def test_a_store_with_an_altered_tile_does_not_open(driver: Driver) -> None:
    """Before its wrong root could be cosigned."""
    fill(driver)
    flip_tile(driver, 1)
    driver.store.close()
    with pytest.raises(InvariantBroken, match="fsck names the block or tile"):
        Store.open(driver.path)
    driver.store = Driver(driver.path.with_name("another")).store


@pytest.mark.parametrize("note", ["", "origin\n5\n!\n", "origin\n6\nAAAA\n", "origin\n5\nAAAA\n\n"])
def test_a_checkpoint_of_another_journal_is_found(driver: Driver, note: str) -> None:
    fill(driver)
    with pytest.raises(InvariantBroken, match="kept for 5 blocks"):
        check_checkpoint(driver.store.machine.ledgers[LEDGER], 5, note)
