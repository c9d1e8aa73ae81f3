"""The simulation sees: each broken rule of safety is found within so many seeds.

F1 and F2 are the canary: two rules of the stock handlers. When they are no longer found, the simulation is
broken, not the rules.
"""

from __future__ import annotations

import pytest

from chaos.simulation.seeds import run
from tests.simulation.mutations import MUTATIONS, Mutation

CASES = [
    pytest.param(each, id=each.rule, marks=[pytest.mark.slow, pytest.mark.timeout(900)] if each.slow else [])
    for each in MUTATIONS
]


@pytest.mark.parametrize("mutation", CASES)
def test_a_broken_rule_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.patch(monkeypatch)
    summary = run(range(mutation.seeds), "mixed")
    assert summary.violating is not None, f"{mutation.rule}: not found in {summary.seeds} seeds"
    print(f"{mutation.rule}: found after {summary.seeds} seeds: {summary.violating.violation}")


def test_the_canary_finds_f1_and_f2_within_a_hundred_seeds() -> None:
    assert {each.rule[:2] for each in MUTATIONS if each.seeds <= 100 and not each.slow} >= {"F1", "F2"}
