"""How long writes stopped, from what clients saw."""

from __future__ import annotations

from chaos.availability import WriteTimes, longest_by_fault, recovery_by_fault
from chaos.faults.fault import Happened
from chaos.history import Operation, Outcome, Write


def write(completed_s: float, outcome: Outcome = "ok") -> Operation:
    ended_ns = int(completed_s * 1e9)
    return Operation(
        client=0,
        kind="put",
        ledger="l",
        writes=(Write("t", "a", {}),),
        invoked_ns=ended_ns - 1,
        completed_ns=ended_ns,
        outcome=outcome,
        seq=1,
    )


def fault(kind: str, began_s: float, healed_s: float) -> Happened:
    began_ns, healed_ns = int(began_s * 1e9), int(healed_s * 1e9)
    return Happened(kind=kind, targets=("n0",), began_ns=began_ns, healed_ns=healed_ns, evidence="seen")


def test_only_acknowledged_writes_end_a_gap() -> None:
    found = WriteTimes([write(1.0), write(2.0, "unknown"), write(4.5), write(3.0, "refused")]).gaps()
    assert [gap.seconds for gap in found] == [3.5]


def test_writes_that_never_come_back_are_a_gap_to_the_end() -> None:
    found = WriteTimes([write(1.0), write(2.0), write(7.0, "unknown")]).gaps()
    assert [gap.seconds for gap in found] == [1.0, 5.0]


def test_a_gap_is_counted_for_the_faults_it_overlaps() -> None:
    history = [write(1.0), write(1.5), write(4.0), write(4.1)]
    faults = [fault("kill", 2.0, 3.0), fault("pause", 4.0, 4.2), fault("kill", 1.1, 1.2)]
    found = longest_by_fault(WriteTimes(history).gaps(), faults)
    assert [round(each, 3) for each in found["kill"]] == [2.5, 0.5]
    assert [round(each, 3) for each in found["pause"]] == [0.1]


def test_recovery_is_what_stood_still_after_healing() -> None:
    history = [write(1.0), write(4.0), write(4.1), write(9.0)]
    faults = [fault("kill", 1.5, 3.0), fault("pause", 4.02, 4.05), fault("kill", 9.5, 9.6)]
    found = recovery_by_fault(WriteTimes(history).gaps(0.5), faults)
    assert {kind: [round(each, 3) for each in times] for kind, times in found.items()} == {
        "kill": [1.0, 0.0],
        "pause": [0.0],
    }
