"""Schedules say what is wrong with them, and shrink to the faults that matter."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chaos.faults.fault import Happened
from chaos.schedule import BUILT_IN, ScheduleInvalid, Step, find, parse, toml
from chaos.shrink import compressed, smallest, steps_of

GOOD = 'title = "t"\nseconds = 30\n[[faults]]\nkind = "kill"\nat_s = 1\nhold_s = 2\ntarget = "zone-a"\n'


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILT_IN.glob("*.toml")))
def test_those_that_come_along_are_valid_and_survive_being_written(name: str) -> None:
    schedule = find(name)
    assert parse(toml(schedule), name) == schedule


def test_small_numbers_survive_being_written() -> None:
    schedule = parse("writes_resume_s = 0.01\n" + GOOD.replace("at_s = 1", "at_s = 1.25"), "x")
    assert parse(toml(schedule), "x") == schedule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title =", "Invalid value"),
        (GOOD.replace("seconds = 30", "seconds = 2"), r"faults\[0\]: ends after the run"),
        (GOOD.replace("zone-a", "zone-z"), r"faults\[0\].target: zone-z is none of follower, leader, n0"),
        (GOOD.replace("hold_s = 2", "hold = 2"), r"unknown field `hold` - at `\$.faults\[0\]`"),
        (GOOD + "at_s = 3", "overwrite"),
        (GOOD.replace("seconds = 30", "seconds = 30\nzones = 7"), "zones: must be 1 to 5, got 7"),
        (GOOD.partition("[[")[0], "faults"),
        (
            GOOD.replace("kill", "split") + '[[faults]]\nkind = "ring"\nat_s = 2\nhold_s = 1\n',
            "ring at 2 s begins while split holds",
        ),
    ],
)
def test_errors_name_the_place(text: str, words: str) -> None:
    with pytest.raises(ScheduleInvalid, match=words):
        parse(text, "x")


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(ScheduleInvalid, match="all-killed, all-power-cut, partitions"):
        find("no-such")


def step(number: int) -> Step:
    return Step(kind=f"k{number}", at_s=number * 10, hold_s=1)


def test_shrinking_finds_the_one_that_matters_within_its_tries() -> None:
    steps = [step(number) for number in range(16)]
    tried = 0

    def fails(some: Sequence[Step]) -> bool:
        nonlocal tried
        tried += 1
        return steps[11] in some

    assert smallest(steps, fails, 50) == [steps[11]]
    tried = 0
    assert steps[11] in smallest(steps, fails, 3)
    assert tried == 3


def test_two_that_matter_together_both_stay() -> None:
    steps = [step(number) for number in range(9)]
    found = smallest(steps, lambda some: steps[2] in some and steps[7] in some, 60)
    assert found == [steps[2], steps[7]]


def test_calm_is_left_out_and_overlap_is_kept() -> None:
    steps = [
        Step(kind="a", at_s=20, hold_s=5),
        Step(kind="b", at_s=22, hold_s=1),
        Step(kind="c", at_s=90, hold_s=1),
    ]
    assert [each.at_s for each in compressed(steps)] == [2, 4, 9]


def test_what_happened_becomes_a_schedule() -> None:
    faults = [
        Happened(kind="kill", targets=("n1", "n2"), began_ns=3 * 10**9, healed_ns=5 * 10**9, evidence="e"),
        Happened(kind="transfer", targets=(), began_ns=7 * 10**9, healed_ns=7 * 10**9, evidence="e"),
    ]
    assert steps_of(faults, 10**9, ["n0", "n1"]) == [
        Step(kind="kill", at_s=2, hold_s=2, target="n1"),
        Step(kind="transfer", at_s=6, hold_s=0.1, target="random"),
    ]
