"""Links from a report to its neighbors, which work as long as the folder stays together."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

from chaos import folder as folders
from chaos.folder import Folder
from chaos.report.timeline import lanes

_NAMES = (
    ("run.json", "what was run"),
    ("verdict.json", "the judgement"),
    ("faults.jsonl", "what was broken"),
    ("nodes.jsonl", "what nodes said of themselves"),
    (folders.HISTORY, "what clients saw"),
    (folders.JOURNAL, "the journal of all nodes"),
)
_UNITS = ("bytes", "kB", "MB", "GB")


class Logs:
    """The nodes' logs that are there, those of members that joined for a while included."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        ordered = [node for node, _ in lanes(folder.settings.zones)]
        found = {path.parent.name for path in (folder.path / "cluster").glob("*/steled.log")}
        self.nodes = [node for node in ordered if node in found]
        self.nodes += sorted(found - set(ordered))

    def linked(self, node: str) -> str:
        """The node's name, with a link when it has a log."""
        if node not in self.nodes:
            return escape(node)
        return f'<a href="cluster/{quote(node)}/steled.log">{escape(node)}</a>'

    def all_linked(self, nodes: tuple[str, ...]) -> str:
        return ", ".join(self.linked(node) for node in nodes)


def files(folder: Folder, logs: Logs) -> str:
    """Everything that is there, with its size: a history of gigabytes is nothing for a browser."""
    journals = [(path.name, "its own journal") for path in sorted(folder.path.glob("journal-*.ndjson"))]
    names = [each for each in (*_NAMES, *journals) if (folder.path / each[0]).exists()]
    rows = [
        f'<li><a href="{quote(name)}">{escape(name)}</a> {words}, {_size(folder.path / name)}</li>'
        for name, words in names
    ]
    for node in logs.nodes:
        zone = escape(folder.settings.zones.get(node, "a member for a while"))
        size = _size(folder.path / "cluster" / node / "steled.log")
        rows.append(f"<li>log of {logs.linked(node)} {zone}, {size}</li>")
    return f'<ul class="files">{"".join(rows)}</ul><p class="quiet">{_wall_clock(folder)}</p>'


def _wall_clock(folder: Folder) -> str:
    if folder.verdict.began:
        return f"Logs carry wall-clock times: 0:00 of this page is {escape(folder.verdict.began)}."
    began = escape(folder.settings.began)
    return f"Logs carry wall-clock times: the nodes were being started at {began}."


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"
