"""Times of a report: since the load began, as its timeline counts."""

from __future__ import annotations


def clock(seconds: float, places: int = 0) -> str:
    """Minutes and seconds, cut off after so many decimals as lanes and logs can be compared by."""
    units = 10**places
    whole, rest = divmod(int(max(seconds, 0.0) * units + 1e-6), units)
    decimals = f".{rest:0{places}d}" if places else ""
    return f"{whole // 60}:{whole % 60:02d}{decimals}"


def moment(seconds: float, places: int = 0) -> str:
    """A time that takes the reader to its place in the timeline (script.js)."""
    return f'<a href="#timeline" data-at="{seconds:.3f}">{clock(seconds, places)}</a>'
