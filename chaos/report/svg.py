"""Elements of SVG as text; classes carry all colors, so that one style sheet serves light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]


def element(name: str, classes: str, title: str = "", **attributes: str | float) -> str:
    """`title` is what a browser shows when the pointer rests on it."""
    written = "".join(f' {key}="{_value(value)}"' for key, value in attributes.items())
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<{name} class="{classes}"{written}>{inside}</{name}>'


def rectangle(
    x: float, y: float, width: float, height: float, classes: str, *, radius: float = 0, title: str = ""
) -> str:
    return element("rect", classes, title, x=x, y=y, width=width, height=height, rx=radius)


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    return element("line", classes, x1=x1, y1=y1, x2=x2, y2=y2)


def text(x: float, y: float, words: str, classes: str) -> str:
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def polyline(points: Sequence[Point], classes: str, *, closed: bool = False) -> str:
    if len(points) == 1:
        ((x, y),) = points
        return element("circle", classes, cx=x, cy=y, r=1)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polygon" if closed else "polyline", classes, points=path)


def area(points: Sequence[Point], base: float, classes: str) -> str:
    """What lies between a line and its base."""
    if not points:
        return ""
    ends = (points[0][0], base), (points[-1][0], base)
    return polyline([ends[0], *points, ends[1]], classes, closed=True)


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}"
