"""The timeline of a run as one drawing: faults, throughput, latency and the nodes' lanes above one clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from chaos.availability import Gap
from chaos.checkers.anomaly import Anomaly
from chaos.faults.fault import Happened
from chaos.observer import Sighting
from chaos.report.clock import clock
from chaos.report.families import family
from chaos.report.series import Series
from chaos.report.svg import area, element, line, polyline, rectangle, text

LABELS_WIDTH = 128
WIDTH_MIN = 1080
_WIDTH_MAX = 24_000
_PIXELS_PER_SECOND_MIN = 4.0
_ROW, _PANEL_GAP = 20, 30
_FAULT_ROWS_MAX = 8
_THROUGHPUT_HEIGHT, _TROUBLE_HEIGHT, _LATENCY_HEIGHT = 150, 44, 140
_CHARACTER_WIDTH, _BOLD_WIDTH = 6.7, 7.6
GAP_SHOWN_S = 0.5
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300)
_LATENCIES_MS = (1, 10, 100, 1_000, 10_000)


class Happenings(NamedTuple):
    """What the timeline shows. All times are monotonic nanoseconds."""

    began_ns: int
    ended_ns: int
    zones: Mapping[str, str]
    series: Series
    faults: Sequence[Happened]
    sightings: Sequence[Sighting]
    gaps: Sequence[Gap]
    anomalies: Sequence[Anomaly]
    last_ns: int
    """When the last operation ended."""

    @property
    def seconds(self) -> float:
        return max((self.ended_ns - self.began_ns) / 1e9, 0.001)


class Drawing(NamedTuple):
    """Two pictures of one height: what stays put at the left, and what may scroll."""

    labels: str
    plot: str
    width: float


class _Name(NamedTuple):
    """Where the name of a fault goes, and from where to where it takes room."""

    left: float
    right: float
    x: float
    classes: str


def width_of(seconds: float) -> float:
    """Long runs get a wide drawing, in which every fault can still be told from the next."""
    return min(max(WIDTH_MIN, seconds * _PIXELS_PER_SECOND_MIN), _WIDTH_MAX)


def draw(happenings: Happenings) -> Drawing:
    return _Timeline(happenings).drawing()


def lanes(zones: Mapping[str, str]) -> list[tuple[str, str]]:
    """Node and zone, zone by zone."""
    return sorted(zones.items(), key=lambda each: (each[1], each[0]))


class _Timeline:
    def __init__(self, happenings: Happenings) -> None:
        self._shown = happenings
        self._width = width_of(happenings.seconds)
        self._labels: list[str] = []
        self._plot: list[str] = []
        self._behind: list[str] = []
        self._y = 8.0

    def drawing(self) -> Drawing:
        self._faults()
        top = self._y - 14
        self._throughput()
        self._trouble()
        self._latency()
        self._lanes()
        bottom = self._y
        for fault in self._shown.faults:
            x, width = self._span(fault.began_ns, fault.healed_ns)
            self._behind.append(rectangle(x, top, width, bottom - top, f"band {family(fault.kind)}"))
        self._anomalies(top, bottom)
        self._clock(top, bottom)
        cursor = line(-9, top, -9, bottom, "cursor")
        return Drawing(
            labels=_svg(LABELS_WIDTH, self._y, self._labels),
            plot=_svg(self._width, self._y, [*self._behind, *self._plot, cursor], "plot"),
            width=self._width,
        )

    def _x(self, at_ns: int) -> float:
        share = (at_ns - self._shown.began_ns) / 1e9 / self._shown.seconds
        return min(max(share, 0.0), 1.0) * self._width

    def _span(self, began_ns: int, ended_ns: int) -> tuple[float, float]:
        x = self._x(began_ns)
        return x, max(self._x(ended_ns) - x, 1.5)

    def _label(self, y: float, words: str, kind: str = "label") -> None:
        self._labels.append(text(LABELS_WIDTH - 10, y, words, f"{kind} end"))

    def _title(self, words: str, detail: str) -> None:
        self._labels.append(text(0, self._y + 12, words, "panel"))
        self._labels.append(text(0, self._y + 27, detail, "label"))

    # Faults, packed into as few rows as show each of them with its name.

    def _faults(self) -> None:
        self._title("Faults", f"{len(self._shown.faults):,} took place")
        named: list[float] = []
        drawn: list[float] = []
        for fault in sorted(self._shown.faults, key=lambda each: each.began_ns):
            x, width = self._span(fault.began_ns, fault.healed_ns)
            name = self._name(fault, x, width)
            row = next((row for row, end in enumerate(named) if end <= min(x, name.left)), len(named))
            has_room = row < _FAULT_ROWS_MAX
            if not has_room:
                # Where it hides least of a name, and no bar.
                row = min(range(_FAULT_ROWS_MAX), key=lambda each: (drawn[each] > x, named[each]))
            elif row == len(named):
                named.append(0.0)
                drawn.append(0.0)
            drawn[row] = max(drawn[row], x + width)
            named[row] = max(named[row], drawn[row], name.right if has_room else 0.0)
            y = self._y + row * (_ROW + 2)
            self._fault(fault, x, y, width)
            if has_room:
                self._plot.append(text(name.x, y + 14, fault.kind, name.classes))
        self._y += max(len(named), 1) * (_ROW + 2) + _PANEL_GAP

    def _name(self, fault: Happened, x: float, width: float) -> _Name:
        """In the bar of a fault, or behind it when that is too short, or before it at the end of the run."""
        room = len(fault.kind) * _CHARACTER_WIDTH + 8
        if room <= width:
            return _Name(x, x + room, x + 5, "on-fault")
        if x + width + room <= self._width:
            return _Name(x, x + width + room, x + width + 4, "by-fault")
        return _Name(x - room, x, x - 4, "by-fault end")

    def _fault(self, fault: Happened, x: float, y: float, width: float) -> None:
        seconds = (fault.healed_ns - fault.began_ns) / 1e9
        words = (
            f"{fault.kind}: {', '.join(fault.targets)}, {seconds:.1f} s. {fault.evidence or 'No evidence'}"
        )
        bar = rectangle(x, y, width, _ROW, f"fault {family(fault.kind)}", radius=3, title=words)
        self._plot.append(bar)

    # Panels of numbers.

    def _points(
        self, values: Sequence[float], top: float, height: float, full: float
    ) -> list[tuple[float, float]]:
        width_s = self._shown.series.width_s
        step = self._width * width_s / self._shown.seconds
        return [
            (min((number + 0.5) * step, self._width), top + height * (1 - min(value / full, 1)))
            for number, value in enumerate(values)
        ]

    def _throughput(self) -> None:
        series, height = self._shown.series, _THROUGHPUT_HEIGHT
        self._title("Throughput", "a second")
        total = [write + read for write, read in zip(series.writes, series.reads, strict=True)]
        step = round_step(max(total, default=1.0))
        full = step * max(math.ceil(max(total, default=1.0) / step), 1)
        top, base = self._y, self._y + height
        for number in range(int(full / step) + 1):
            y = base - height * number * step / full
            self._plot.append(line(0, y, self._width, y, "grid"))
            self._label(y + 4, f"{number * step:,g}", "tick")
        self._plot.append(area(self._points(total, top, height, full), base, "reads"))
        self._plot.append(area(self._points(series.writes, top, height, full), base, "writes"))
        for gap in self._shown.gaps:
            if gap.seconds >= GAP_SHOWN_S:
                self._gap(gap, base)
        x, words = self._x(self._shown.last_ns), "clients and observer have ended"
        if self._width - x > len(words) * _CHARACTER_WIDTH:
            self._plot.append(text((x + self._width) / 2, base - 8, words, "tick middle"))
        self._y = base + _PANEL_GAP

    def _gap(self, gap: Gap, base: float) -> None:
        x, width = self._span(gap.began_ns, gap.ended_ns)
        words = f"{gap.seconds:.1f} s"
        self._plot.append(
            rectangle(x, base - 2, width, 5, "gap", title=f"no write acknowledged for {gap.seconds:.2f} s")
        )
        if width > len(words) * _CHARACTER_WIDTH:
            self._plot.append(text(x + width / 2, base - 8, words, "on-gap middle"))

    def _trouble(self) -> None:
        """Few among many: bars on a square-root scale, refused above the line and unknown below."""
        series, half = self._shown.series, _TROUBLE_HEIGHT / 2
        self._title("Not done", "refused, unknown")
        full = math.sqrt(max([*series.refused, *series.unknown, 1.0]))
        middle = self._y + half
        step = self._width * series.width_s / self._shown.seconds
        for number, (refused, unknown) in enumerate(zip(series.refused, series.unknown, strict=True)):
            x, width = number * step, max(step - 0.6, 0.6)
            up, down = half * math.sqrt(refused) / full, half * math.sqrt(unknown) / full
            if up:
                self._plot.append(rectangle(x, middle - up, width, up, "refused"))
            if down:
                self._plot.append(rectangle(x, middle, width, down, "unknown"))
        self._plot.append(line(0, middle, self._width, middle, "axis"))
        self._y += _TROUBLE_HEIGHT + _PANEL_GAP

    def _latency(self) -> None:
        series, height = self._shown.series, _LATENCY_HEIGHT
        self._title("Latency", "median, 99 %")
        highest = max((each for each in series.p99_ms if each is not None), default=1.0)
        lowest = min((each for each in series.p50_ms if each is not None), default=1.0)
        ends = math.floor(math.log10(max(lowest, 0.1))), math.ceil(math.log10(max(highest, 1.1)))
        top, base = self._y, self._y + height
        for milliseconds in (tick for tick in _LATENCIES_MS if 10 ** ends[0] <= tick <= 10 ** ends[1]):
            y = base - height * (math.log10(milliseconds) - ends[0]) / (ends[1] - ends[0])
            self._plot.append(line(0, y, self._width, y, "grid"))
            self._label(
                y + 4, f"{milliseconds // 1000} s" if milliseconds >= 1000 else f"{milliseconds} ms", "tick"
            )
        p99 = list(self._pieces(series.p99_ms, top, height, ends))
        p50 = list(self._pieces(series.p50_ms, top, height, ends))
        for upper, lower in zip(p99, p50, strict=True):
            self._plot.append(polyline([*upper, *reversed(lower)], "between", closed=True))
        self._plot += [polyline(piece, "p99") for piece in p99] + [polyline(piece, "p50") for piece in p50]
        self._y = base + _PANEL_GAP

    def _pieces(
        self, values: Sequence[float | None], top: float, height: float, ends: tuple[int, int]
    ) -> Iterator[list[tuple[float, float]]]:
        """Unbroken stretches of a line; nothing is drawn through a time in which nothing was done."""
        step = self._width * self._shown.series.width_s / self._shown.seconds
        piece: list[tuple[float, float]] = []
        for number, value in enumerate([*values, None]):
            if value is not None:
                share = (math.log10(max(value, 10 ** ends[0])) - ends[0]) / (ends[1] - ends[0])
                piece.append((min((number + 0.5) * step, self._width), top + height * (1 - share)))
            elif piece:
                yield piece
                piece = []

    # Lanes of the nodes.

    def _lanes(self) -> None:
        self._title("Nodes", "role and term")
        by_node: dict[str, list[Sighting]] = {}
        for sighting in sorted(self._shown.sightings, key=lambda each: each.at_ns):
            by_node.setdefault(sighting.node, []).append(sighting)
        ordered = lanes(self._shown.zones)
        self._y += 36
        for number, (node, zone) in enumerate(ordered):
            if number == 0 or zone != ordered[number - 1][1]:
                self._y += 8 if number else 0
                self._labels.append(text(0, self._y + 14, zone, "zone"))
            self._label(self._y + 14, node, "node")
            self._lane(by_node.get(node, []))
            self._y += _ROW + 3
        self._y += 4

    def _lane(self, sightings: Sequence[Sighting]) -> None:
        for number, seen in enumerate(sightings):
            last = number + 1 == len(sightings)
            # Nobody looks any longer when the load has ended.
            until_ns = max(self._shown.last_ns, seen.at_ns) if last else sightings[number + 1].at_ns
            if until_ns <= self._shown.began_ns or seen.at_ns >= self._shown.ended_ns:
                continue
            x, width = self._span(seen.at_ns, until_ns)
            term = "" if seen.term is None else f", term {seen.term}"
            title = f"{seen.node}: {seen.role}{term}, {(until_ns - seen.at_ns) / 1e9:.1f} s"
            self._plot.append(rectangle(x, self._y, width, _ROW, f"role {seen.role}", radius=2, title=title))
            words = f"term {seen.term}"
            if seen.role == "leader" and seen.term is not None:
                words = words if width > len(words) * _BOLD_WIDTH + 8 else str(seen.term)
                if width > len(words) * _BOLD_WIDTH + 6:
                    self._plot.append(text(x + 5, self._y + 14, words, "on-leader"))

    def _anomalies(self, top: float, bottom: float) -> None:
        for anomaly in self._shown.anomalies:
            for operation in anomaly.operations[-1:]:
                x = self._x(operation.completed_ns)
                self._plot.append(line(x, top, x, bottom, "anomaly"))
                self._plot.append(
                    element("path", "anomaly-mark", str(anomaly), d=f"M{x:.1f} {top} l-6 -10 h12 z")
                )

    def _clock(self, top: float, bottom: float) -> None:
        pixels = self._width / self._shown.seconds
        step = next((each for each in _STEPS_S if each * pixels >= 56), _STEPS_S[-1])
        for second in range(0, int(self._shown.seconds) + 1, step):
            x = second * pixels
            self._behind.append(line(x, top, x, bottom + 5, "grid faint"))
            kind = "tick" if second == 0 else "tick middle"
            if x < self._width - 12 or second == 0:
                self._plot.append(text(x, bottom + 20, clock(second), kind))
        self._y = bottom + 28


def round_step(largest: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides an axis up to `largest` into two to five."""
    rough = max(largest, 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= rough)


def _svg(width: float, height: float, parts: Sequence[str], name: str = "labels") -> str:
    return (
        f'<svg class="{name}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">{"".join(parts)}</svg>'
    )
