"""The simulation sees: each broken rule of safety is found within so many seeds.

F1 and F2 are the canary: two rules of the stock handlers. When they are no longer found, the simulation is
broken, not the rules.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.simulation.seeds import run
from tests.simulation.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.rule)
def test_a_broken_rule_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutation.patch(monkeypatch)
    if mutation.test is not None:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            mutation.test(tmp_path)
        return
    summary = run(range(mutation.seeds), "mixed")
    assert summary.violating is not None, f"{mutation.rule}: not found in {summary.seeds} seeds"
    print(f"{mutation.rule}: found after {summary.seeds} seeds: {summary.violating.violation}")


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each.test], ids=lambda each: each.rule)
def test_the_test_that_finds_it_passes_on_the_rule(mutation: Mutation, tmp_path: Path) -> None:
    assert mutation.test is not None
    mutation.test(tmp_path)
