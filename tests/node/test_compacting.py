"""Tables that wait to be merged: they wait under load, and are merged once hardly anybody writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from node import limits
from node.compacting import Compacting
from storage.engine import Batch, Engine
from storage.errors import StorageFailed
from storage.limits import LEVEL_ZERO_FILES, LEVEL_ZERO_FILES_QUIET

PERIOD_S = 0.02
MERGED_WITHIN_S = 20.0
TABLES = LEVEL_ZERO_FILES_QUIET + 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.COMPACTING_PERIOD_S", PERIOD_S)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    opened = Engine(tmp_path / "db")
    yield opened
    opened.close()


def write(engine: Engine, name: bytes) -> None:
    """More rows than in any quiet period, and always the same ones, so that tables overlap."""
    batch = Batch()
    for n in range(limits.QUIET_ROWS_A_PERIOD_MAX + 1):
        batch.put(b"row%03d" % n, name)
    engine.write(batch)


def write_tables(engine: Engine) -> None:
    for n in range(TABLES):
        write(engine, b"table %d" % n)
        engine.flush()


async def until(condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline_s = time.monotonic() + MERGED_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s
        meanwhile()
        await asyncio.sleep(PERIOD_S / 4)


async def periods(engine: Engine, count: int) -> None:
    """Lets so many periods pass, each with more writes than a quiet one."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + count * PERIOD_S
    while loop.time() < end_s:
        write(engine, b"busy")
        await asyncio.sleep(PERIOD_S / 4)


async def test_tables_wait_under_load_and_are_merged_in_a_quiet_time(engine: Engine) -> None:
    compacting = Compacting(engine)
    compacting.start()
    write_tables(engine)
    await periods(engine, 4 * limits.QUIET_PERIODS_MIN)
    assert engine.level_zero_files == TABLES
    await until(lambda: engine.level_zero_files == 0)
    assert engine.get(b"row000") == b"busy"
    await compacting.stop()


async def test_the_next_load_finds_merges_late_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    merged_at: list[int] = []
    merge_at = engine.merge_level_zero_at

    def watched(files: int) -> None:
        merge_at(files)
        merged_at.append(files)

    monkeypatch.setattr(engine, "merge_level_zero_at", watched)
    compacting = Compacting(engine)
    compacting.start()
    write_tables(engine)
    await until(lambda: engine.level_zero_files == 0)
    assert TABLES < LEVEL_ZERO_FILES
    await until(lambda: merged_at[-1:] == [LEVEL_ZERO_FILES], meanwhile=lambda: write(engine, b"busy"))
    write_tables(engine)
    await periods(engine, 4 * limits.QUIET_PERIODS_MIN)
    assert engine.level_zero_files == TABLES
    await compacting.stop()


async def test_a_few_writes_are_quiet(engine: Engine) -> None:
    compacting = Compacting(engine)
    compacting.start()
    write_tables(engine)

    def write_one() -> None:
        batch = Batch()
        batch.put(b"row000", b"one")
        engine.write(batch)

    await until(lambda: engine.level_zero_files == 0, meanwhile=write_one)
    await compacting.stop()


async def test_a_database_that_keeps_its_options_is_left_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(files: int) -> None:
        asked.append(files)
        raise StorageFailed("it would not")

    monkeypatch.setattr(engine, "merge_level_zero_at", refuse)
    compacting = Compacting(engine)
    compacting.start()
    await until(lambda: bool(asked))
    await asyncio.wait_for(compacting.stop(), MERGED_WITHIN_S)
    assert asked == [LEVEL_ZERO_FILES_QUIET]


async def test_stopping_is_prompt(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.COMPACTING_PERIOD_S", 3600.0)
    compacting = Compacting(engine)
    compacting.start()
    await asyncio.sleep(0)
    await asyncio.wait_for(compacting.stop(), MERGED_WITHIN_S)
