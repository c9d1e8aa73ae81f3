"""What a run showed, for the terminal."""

from __future__ import annotations

from chaos.history import Outcome
from chaos.run import Run

_ANOMALIES_SHOWN_MAX = 10
_OUTCOMES: tuple[Outcome, ...] = ("ok", "refused", "unknown")


def summary(result: Run) -> str:
    """Counts of operations and faults, how long writes stopped, and every broken promise."""
    outline, verdict = result.outline, result.verdict
    seconds = (result.ended_ns - result.began_ns) / 1e9
    lines = [f"{outline.operations:,} operations in {seconds:.0f} s, {len(result.faults)} faults"]
    for kind in sorted({kind for kind, _ in outline.counts}):
        counts = ", ".join(f"{outline.counts[kind, outcome]:,} {outcome}" for outcome in _OUTCOMES)
        lines.append(f"  {kind}: {counts}")
    longest = max((gap.seconds for gap in outline.gaps()), default=0.0)
    lines.append(f"longest time without an acknowledged write: {longest:.2f} s")
    for fault, found in sorted(verdict.unavailable_s.items()):
        recovered = max(verdict.recovery_s[fault])
        lines.append(
            f"  {fault}: {len(found)} times, longest {max(found):.2f} s, "
            f"at most {recovered:.2f} s of it after the fault had ended"
        )
    lines.append("judged: " + ", ".join(f"{count:,} {what}" for what, count in verdict.judged.items()))
    if not result.anomalies:
        lines.append("no promise was broken")
    for anomaly in result.anomalies[:_ANOMALIES_SHOWN_MAX]:
        lines.append(f"BROKEN: {anomaly}")
        lines += [f"    {operation}" for operation in anomaly.operations]
    if len(result.anomalies) > _ANOMALIES_SHOWN_MAX:
        lines.append(f"... and {len(result.anomalies) - _ANOMALIES_SHOWN_MAX} more")
    return "\n".join(lines)
