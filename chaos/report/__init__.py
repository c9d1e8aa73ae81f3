"""One HTML file that shows a run: nothing in it comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

from chaos import folder as folders
from chaos.report.page import page


def write(folder: Path) -> Path:
    """Makes report.html from the other files of a run's folder. Raises OSError and msgspec.MsgspecError."""
    path = folder / "report.html"
    path.write_text(page(folders.read(folder)), encoding="utf-8")
    return path
