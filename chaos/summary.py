"""What a run showed, for the terminal."""

from __future__ import annotations

from collections import Counter

from chaos.availability import gaps, longest_by_fault
from chaos.history import Outcome
from chaos.run import Run

_ANOMALIES_SHOWN_MAX = 10
_OUTCOMES: tuple[Outcome, ...] = ("ok", "refused", "unknown")


def summary(result: Run) -> str:
    """Counts of operations and faults, how long writes stopped, and every broken promise."""
    outcomes = Counter((each.kind, each.outcome) for each in result.history)
    seconds = (result.ended_ns - result.began_ns) / 1e9
    lines = [f"{len(result.history):,} operations in {seconds:.0f} s, {len(result.faults)} faults"]
    for kind in sorted({kind for kind, _ in outcomes}):
        counts = ", ".join(f"{outcomes[kind, outcome]:,} {outcome}" for outcome in _OUTCOMES)
        lines.append(f"  {kind}: {counts}")
    longest = max((gap.seconds for gap in gaps(result.history)), default=0.0)
    lines.append(f"longest time without an acknowledged write: {longest:.2f} s")
    for fault, found in sorted(longest_by_fault(result.history, result.faults).items()):
        lines.append(f"  {fault}: {len(found)} times, longest {max(found):.2f} s")
    if not result.anomalies:
        lines.append("no promise was broken")
    for anomaly in result.anomalies[:_ANOMALIES_SHOWN_MAX]:
        lines.append(f"BROKEN: {anomaly}")
        lines += [f"    {operation}" for operation in anomaly.operations]
    if len(result.anomalies) > _ANOMALIES_SHOWN_MAX:
        lines.append(f"... and {len(result.anomalies) - _ANOMALIES_SHOWN_MAX} more")
    return "\n".join(lines)
