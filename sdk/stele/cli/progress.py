"""Progress bars on standard error; nothing at all when that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

UPDATE_S = 0.1


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        done: float = task.fields["done"]
        elapsed_s = task.elapsed or 0.0
        rate = f" {done / elapsed_s:,.0f}/s" if elapsed_s > 0.5 else ""
        return Text(f"{done:,.0f} {task.fields['unit']}{rate}")


class Bar:
    """One running bar: `done` items of a unit; the bar's length may be in another one, such as bytes."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._again_s = 0.0

    def update(self, done: int, *, completed: float | None = None) -> None:
        """`done` items are done; `completed` is how far the bar stands, if known. Cheap to call."""
        now_s = monotonic()
        if now_s >= self._again_s:
            self._again_s = now_s + UPDATE_S
            self._progress.update(self._task, done=done, completed=completed)


@contextmanager
def progress_bar(title: str, unit: str, *, total: float | None = None) -> Iterator[Bar]:
    """Shows a bar while the block runs, when standard error is a terminal."""
    length = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) if total is not None else ()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        *length,
        _Rate(),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with progress:
        yield Bar(progress, progress.add_task(title, total=total, done=0, unit=unit))
