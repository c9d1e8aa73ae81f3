"""The durable log on a real RocksDB: what was synced is there, what was not is gone, and rot is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import limits, record
from consensus.errors import InvariantBroken, LogCorrupt
from consensus.log import DurableLog
from consensus.log_rows import entry_key
from consensus.record import Kind, RecordCorrupt
from consensus.term_runs import TermRuns
from tests.consensus.rocks import RocksStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    rocks = RocksStore(tmp_path / "rocks")
    yield rocks
    rocks.close()


def extend(log: DurableLog, *terms: int, payload: bytes = b"payload") -> None:
    for term in terms:
        log.append_new(term, Kind.REGULAR, payload)
    log.set_hard_state(max(log.current_term, log.last_term), log.voted_for)


def content(log: DurableLog) -> list[bytes]:
    if log.last_index < log.first_index:
        return []
    return log.records(log.first_index, count_max=1 << 30, size_bytes_max=1 << 30)


def test_what_is_synced_is_there_again_and_what_is_staged_is_gone(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, 1, 1)
    log.set_hard_state(4, "n2")
    assert log.sync()
    extend(log, 2)
    log.set_hard_state(5, None)
    again = DurableLog(store)
    assert content(again) == content(log)[:3]
    assert (again.first_index, again.last_index, again.synced_index, again.last_term) == (1, 3, 3, 1)
    assert (again.current_term, again.voted_for) == (4, "n2")


def test_entries_term_and_vote_are_one_batch_and_nothing_is_none(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, 3, 3)
    log.set_hard_state(3, "n1")
    log.sync()
    assert store.batches == 1
    log.set_hard_state(3, "n1")
    assert not log.sync()
    assert store.batches == 1


def test_a_suffix_is_replaced_in_one_batch(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, 1, 1, 1, 1)
    log.sync()
    log.truncate_from(3)
    extend(log, 2, 2, payload=b"other")
    batches = store.batches
    log.sync()
    assert store.batches == batches + 1
    again = DurableLog(store)
    assert content(again) == content(log)
    assert [again.term_at(index) for index in range(1, 6)] == [0, 1, 2, 2, None]


def test_a_suffix_that_is_only_truncated_is_gone_after_a_restart(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, 1, 1, 1)
    log.sync()
    log.truncate_from(2)
    log.sync()
    assert DurableLog(store).last_index == 1


def test_a_prefix_is_deleted_in_one_batch_and_the_rest_stays(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, *[1] * 20)
    log.sync()
    rest = content(log)[9:]
    log.delete_before(10)
    assert DurableLog(store).first_index == 1
    batches = store.batches
    log.sync()
    assert store.batches == batches + 1
    again = DurableLog(store)
    assert (again.first_index, again.last_index) == (10, 21)
    assert content(again) == content(log) == rest
    assert again.term_at(9) is None


def test_old_entries_are_read_from_disk_and_the_cache_is_bounded(
    store: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_CACHE_ENTRIES_MAX", 10)
    log = DurableLog(store)
    extend(log, 0, *[1] * 99)
    expected = content(log)
    log.sync()
    assert len(log._cache) == 10
    assert content(log) == content(DurableLog(store)) == expected
    assert log.records(95, last=96, count_max=9, size_bytes_max=1 << 20) == expected[94:96]
    assert log.records(5, count_max=3, size_bytes_max=1 << 20) == expected[4:7]
    log.truncate_from(50)
    assert content(log) == expected[:49]


def test_the_cache_is_bounded_in_bytes(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_CACHE_SIZE_BYTES_MAX", 1_000)
    log = DurableLog(store)
    extend(log, 0, *[1] * 20, payload=b"p" * 200)
    log.sync()
    assert 0 < sum(map(len, log._cache.values())) <= 1_000
    assert log._cache_size_bytes == sum(map(len, log._cache.values()))


def test_a_batch_of_records_is_bounded_but_never_empty(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, *[1] * 9, payload=b"p" * 100)
    assert len(log.records(2, count_max=100, size_bytes_max=300)) == 2
    assert len(log.records(2, count_max=100, size_bytes_max=1)) == 1
    assert len(log.records(2, count_max=4, size_bytes_max=1 << 20)) == 4


def test_the_log_refuses_gaps_and_deletions_outside_it(store: RocksStore) -> None:
    log = DurableLog(store)
    extend(log, 0, 1)
    for index in (2, 4):
        with pytest.raises(InvariantBroken):
            log.append(index, 1, record.encode(index, 1, Kind.REGULAR, b""))
    with pytest.raises(InvariantBroken):
        log.truncate_from(1)
    with pytest.raises(InvariantBroken):
        log.delete_before(2)  # It is not on disk yet.


# Rot.


@pytest.fixture
def stored(store: RocksStore) -> RocksStore:
    log = DurableLog(store)
    extend(log, 0, 1, 2, 2, 3)
    log.set_hard_state(3, "n1")
    log.sync()
    return store


@pytest.mark.parametrize("index", [1, 2, 3, 5])
def test_every_flipped_bit_of_an_entry_is_found_and_named(stored: RocksStore, index: int) -> None:
    key, row = next(stored.scan(entry_key(index), entry_key(index + 1)))
    for position in range(len(row)):
        damaged = bytearray(row)
        damaged[position] ^= 0x10
        stored.overwrite(key, bytes(damaged))
        with pytest.raises(LogCorrupt) as found:
            DurableLog(stored)
        assert found.value.index == index
    stored.overwrite(key, row)
    assert DurableLog(stored).last_index == 5


@pytest.mark.parametrize("index", [1, 3, 5])
def test_a_missing_entry_is_found_and_named(stored: RocksStore, index: int) -> None:
    key, _ = next(stored.scan(entry_key(index), entry_key(index + 1)))
    stored.delete(key)
    with pytest.raises(LogCorrupt) as found:
        DurableLog(stored)
    assert found.value.index == index


def test_a_good_record_in_the_wrong_place_is_found(stored: RocksStore) -> None:
    _, row = next(stored.scan(entry_key(2), entry_key(3)))
    key, _ = next(stored.scan(entry_key(3), entry_key(4)))
    stored.overwrite(key, row)
    with pytest.raises(LogCorrupt, match="its own key"):
        DurableLog(stored)


def test_an_entry_behind_the_last_one_is_found(stored: RocksStore) -> None:
    stored.overwrite(entry_key(6, 3), record.encode(6, 3, Kind.REGULAR, b""))
    with pytest.raises(LogCorrupt, match="behind the last one"):
        DurableLog(stored)


def test_a_last_entry_of_another_term_than_the_bounds_say_is_found(stored: RocksStore) -> None:
    stored.delete(entry_key(5, 3))
    stored.overwrite(entry_key(5, 2), record.encode(5, 2, Kind.REGULAR, b""))
    with pytest.raises(LogCorrupt, match="expected 3"):
        DurableLog(stored)


@pytest.mark.parametrize("key", [b"b", b"h"])
def test_rot_in_bounds_and_hard_state_is_found(stored: RocksStore, key: bytes) -> None:
    row = stored.get(key)
    assert row is not None
    for position in range(len(row)):
        damaged = bytearray(row)
        damaged[position] ^= 1
        stored.overwrite(key, bytes(damaged))
        with pytest.raises(LogCorrupt):
            DurableLog(stored)
    stored.delete(key)
    with pytest.raises(LogCorrupt):
        DurableLog(stored)


def test_rot_that_comes_later_is_found_when_the_entry_is_read(
    stored: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_CACHE_ENTRIES_MAX", 1)
    log = DurableLog(stored)
    key, row = next(stored.scan(entry_key(2), entry_key(3)))
    stored.overwrite(key, row[:-1] + b"?")
    with pytest.raises(LogCorrupt) as found:
        content(log)
    assert found.value.index == 2


# Records and terms.

U63 = st.integers(0, (1 << 63) - 1)


@given(U63, U63, st.sampled_from(Kind), st.binary(max_size=300))
def test_a_record_says_what_it_was_made_of(index: int, term: int, kind: Kind, payload: bytes) -> None:
    encoded = record.encode(index, term, kind, payload)
    assert record.check(encoded) == (index, term, kind)
    assert record.kind_of(encoded) is kind
    assert record.payload_of(encoded) == payload


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_record(data: bytes) -> None:
    with pytest.raises(RecordCorrupt):
        record.check(data)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_term_runs_are_a_list_of_terms(steps: list[int], data: st.DataObject) -> None:
    runs, terms = TermRuns(), [0]
    for step in steps:
        terms.append(terms[-1] + step)
        runs.append(terms[-1])
    first = 1
    for _ in range(3):
        if data.draw(st.booleans()):
            index = data.draw(st.integers(first, len(terms) - 1))
            runs.drop_before(index)
            first = index
        else:
            index = data.draw(st.integers(first + 1, len(terms)))
            runs.truncate_from(index)
            del terms[index:]
        assert runs.last_term == terms[-1]
        for i in range(len(terms) + 1):
            assert runs.term_at(i) == (terms[i] if first <= i < len(terms) else None)
        for i in range(first, len(terms)):
            assert runs.run_start(i) == min(j for j in range(first, len(terms)) if terms[j] == terms[i])
        for term in range(terms[-1] + 2):
            held = [j for j in range(first, len(terms)) if terms[j] == term]
            assert runs.last_index_of(term) == (held[-1] if held else None)
