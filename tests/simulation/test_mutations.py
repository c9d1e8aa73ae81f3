"""The simulation sees: each broken rule of safety is found within so many seeds.

The canary is PySyncObj's own code. When F1 and F2 are no longer found in it, the simulation is broken, not
the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.simulation.seeds import run
from consensus.errors import LogCorrupt
from tests.simulation import stock_handlers
from tests.simulation.mutations import MUTATIONS, Mutation

CANARY_SEEDS = 100


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of faults need not be reported one by one."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "handlers", [stock_handlers.chunks, stock_handlers.appends], ids=["F1: chunks", "F2: appends"]
)
def test_the_canary_is_seen(
    handlers: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers(monkeypatch)
    summary = run(range(CANARY_SEEDS), "mixed")
    assert summary.violating is not None, "PySyncObj's own handlers kept every promise"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.rule)
def test_a_broken_rule_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutation.patch(monkeypatch)
    if mutation.test is not None:
        with pytest.raises((AssertionError, pytest.fail.Exception, LogCorrupt)):
            mutation.test(tmp_path)
        return
    summary = run(range(mutation.seeds), "mixed")
    assert summary.violating is not None, f"{mutation.rule}: not found in {summary.seeds} seeds"
    print(f"{mutation.rule}: found after {summary.seeds} seeds: {summary.violating.violation}")


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.test], ids=lambda each: each.rule)
def test_the_test_that_finds_it_passes_on_the_rule(mutation: Mutation, tmp_path: Path) -> None:
    assert mutation.test is not None
    mutation.test(tmp_path)
