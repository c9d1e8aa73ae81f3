"""All of a long run at a glance, above a timeline that is too wide to be seen as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaos.report.clock import clock
from chaos.report.families import family
from chaos.report.svg import area, line, rectangle
from chaos.report.timeline import GAP_SHOWN_S, WIDTH_MIN, Happenings, width_of

_WIDTH, _HEIGHT = 1000.0, 74.0
"""Units of the drawing, which is stretched to the width of the page."""
_FAULT_HEIGHT = 12.0
_POINTS_MAX = 300
_STEPS_S = (30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 10_800)
_TICKS_MAX = 13


def overview(happenings: Happenings) -> str:
    """Faults, throughput and stops of writes.

    script.js adds the frame of what the timeline shows, and decides anew whether that is all there is.
    """
    seconds = happenings.seconds
    step = next((each for each in _STEPS_S if seconds / each <= _TICKS_MAX), _STEPS_S[-1])
    ticks = "".join(
        f'<span style="left:{100 * at / seconds:.2f}%">{clock(at)}</span>'
        for at in range(0, int(seconds * 0.98) + 1, step)
    )
    hidden = "" if width_of(seconds) > WIDTH_MIN else " hidden"
    return (
        f'<div class="whole"{hidden}><div class="overview">'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" '
        f'role="img">{"".join(_drawn(happenings))}</svg><div class="window" hidden></div></div>'
        f'<div class="ticks">{ticks}</div></div>'
    )


def _drawn(happenings: Happenings) -> Iterator[str]:
    unit = _WIDTH / happenings.seconds

    def x(at_ns: int) -> float:
        return min(max((at_ns - happenings.began_ns) / 1e9 * unit, 0.0), _WIDTH)

    series, top, base = happenings.series, _FAULT_HEIGHT + 6, _HEIGHT - 4
    writes = _means(series.writes)
    total = [write + read for write, read in zip(writes, _means(series.reads), strict=True)]
    full = max(max(total, default=1.0), 1.0)
    for values, kind in ((total, "reads"), (writes, "writes")):
        step = _WIDTH / len(values)
        points = [((n + 0.5) * step, base - (base - top) * each / full) for n, each in enumerate(values)]
        yield area([(0.0, points[0][1]), *points, (_WIDTH, points[-1][1])], base, kind)
    for fault in happenings.faults:
        width = max(x(fault.healed_ns) - x(fault.began_ns), 0.8)
        yield rectangle(x(fault.began_ns), 0, width, _FAULT_HEIGHT, f"fault {family(fault.kind)}")
    for gap in happenings.gaps:
        if gap.seconds >= GAP_SHOWN_S:
            width = max(x(gap.ended_ns) - x(gap.began_ns), 1.0)
            yield rectangle(x(gap.began_ns), base, width, _HEIGHT - base, "gap")
    for anomaly in happenings.anomalies:
        for operation in anomaly.operations[-1:]:
            at = x(operation.completed_ns)
            yield line(at, 0, at, _HEIGHT, "anomaly")


def _means(values: Sequence[float]) -> list[float]:
    size = -(-len(values) // _POINTS_MAX)
    pieces = [values[start : start + size] for start in range(0, len(values), size)]
    return [sum(piece) / len(piece) for piece in pieces] or [0.0]
