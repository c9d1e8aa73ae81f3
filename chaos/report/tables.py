"""The parts of a report that are read rather than watched: figures and tables."""

from __future__ import annotations

import math
import statistics
from html import escape

from chaos.folder import Folder
from chaos.outline import Outline
from chaos.report.clock import moment
from chaos.report.families import family
from chaos.report.links import Logs
from chaos.report.timeline import GAP_SHOWN_S

_OUTCOMES = ("ok", "refused", "unknown")
_STRIP_WIDTH, _STRIP_HEIGHT = 150, 18
_STRIP_S = (0.01, 30.0)
_FAULTS_OPEN_MAX = 40
_JUDGES = {
    "exports": "one of each node: the same bytes, valid from end to end",
    "checkpoints": "that a reader was shown: all of that one journal",
    "proofs of growth": "from checkpoint to checkpoint, checked as clients do",
    "blocks": "each asked for, and the bank has its money after it",
    "operations in order": "by their blocks, against real time and the journal",
    "registers linearizable": "some order explains every answer",
    "registers undecided": "the search for such an order took too long",
    "transfers": "between accounts, searched for cycles",
    "appends": "to lists, searched for cycles by the lists alone",
    "repeated inserts": "the first answer again, and no second effect",
    "lines of loads": "that were resumed when they broke: each there once",
    "reads of the past": "and histories: as the journal has them",
    "tasks before": "of all nodes' event loops, when nothing was asked of them yet",
    "tasks after": "when nothing was asked of them any more: none may be left over",
}
"""What each count of a verdict stands for, in the order in which it is read."""


def tiles(folder: Folder, outline: Outline) -> str:
    """The figures that people look for first."""
    verdict = folder.verdict
    seconds = max((outline.last_ns - verdict.began_ns) / 1e9, 0.001)
    stops = outline.gaps()
    longest = max((gap.seconds for gap in stops), default=0.0)
    stopped = sum(gap.seconds for gap in stops if gap.seconds >= GAP_SHOWN_S)
    median, slow = outline.latency_ms(0.5), outline.latency_ms(0.99)
    figures = [
        (f"{outline.operations:,}", "operations", f"{outline.operations / seconds:,.0f} a second"),
        (f"{outline.writes:,}", "writes acknowledged", "every one of them looked for"),
        (
            f"{len(folder.faults):,}",
            "faults",
            f"of {len(verdict.faults)} kind{'' if len(verdict.faults) == 1 else 's'}",
        ),
        (
            f"{longest:.2f} s",
            "longest stop of writes",
            f"{100 * (1 - stopped / seconds):.1f} % of the time writable",
        ),
        (
            "–" if median is None else f"{median:.1f} ms",
            "median latency",
            "" if slow is None else f"99 %: {slow:,.0f} ms",
        ),
    ]
    cells = "".join(
        f'<div class="tile"><p class="figure">{figure}</p><p>{name}</p><p class="quiet">{detail}</p></div>'
        for figure, name, detail in figures
    )
    return f'<div class="tiles">{cells}</div>'


def availability(folder: Folder) -> str:
    """For each kind of fault: every occurrence as a dot on a logarithmic scale of seconds."""
    rows = []
    verdict = folder.verdict
    for kind, found in sorted(verdict.unavailable_s.items(), key=lambda each: -max(each[1])):
        after = verdict.recovery_s.get(kind)
        name = f'<td class="name"><i class="chip {family(kind)}"></i>{escape(kind)}</td>'
        figures = f'<td class="n">{statistics.median(found):.2f} s</td><td class="n">{max(found):.2f} s</td>'
        figures += f'<td class="n">{"–" if after is None else f"{max(after):.2f} s"}</td>'
        rows.append(f'<tr>{name}<td class="n">{len(found)}</td><td>{_strip(kind, found)}</td>{figures}</tr>')
    if not rows:
        return '<p class="quiet">No fault took place.</p>'
    head = '<tr><th>fault</th><th class="n">times</th><th>'
    head += f'{_scale()}</th><th class="n">median</th><th class="n">longest</th>'
    head += '<th class="n narrow">after healing</th></tr>'
    note = "The longest time without an acknowledged write, by any client, that each fault overlaps, and how "
    note += "long at most writes still stood still after such a fault had been healed."
    return f'<p class="quiet">{note}</p><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _strip_x(seconds: float) -> float:
    low, high = (math.log10(end) for end in _STRIP_S)
    at = math.log10(min(max(seconds, _STRIP_S[0]), _STRIP_S[1]))
    return 6 + (_STRIP_WIDTH - 12) * (at - low) / (high - low)


def _strip(kind: str, found: list[float]) -> str:
    lines = "".join(
        f'<line class="grid" x1="{_strip_x(at):.1f}" y1="0" x2="{_strip_x(at):.1f}" y2="{_STRIP_HEIGHT}"/>'
        for at in (0.01, 0.1, 1, 10)
    )
    dots = "".join(
        f'<circle class="dot {family(kind)}" cx="{_strip_x(each):.1f}" cy="9" r="4.5">'
        f"<title>{each:.2f} s</title></circle>"
        for each in found
    )
    return f'<svg class="strip" width="{_STRIP_WIDTH}" height="{_STRIP_HEIGHT}">{lines}{dots}</svg>'


def _scale() -> str:
    words = "".join(
        f'<text class="tick middle" x="{max(_strip_x(at), 14):.1f}" y="12">{name}</text>'
        for at, name in ((0.01, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10 s"))
    )
    return f'<svg class="strip" width="{_STRIP_WIDTH}" height="14">{words}</svg>'


def outcomes(outline: Outline) -> str:
    counts = outline.counts
    rows = []
    for kind in sorted({kind for kind, _ in counts}):
        numbers = {outcome: counts[kind, outcome] for outcome in _OUTCOMES}
        total = sum(numbers.values())
        bar = "".join(
            f'<i class="{outcome}" style="flex:{number / total:.5f}" title="{number:,} {outcome}"></i>'
            for outcome, number in numbers.items()
            if number
        )
        cells = "".join(f'<td class="n">{number:,}</td>' for number in numbers.values())
        rows.append(f'<tr><td>{escape(kind)}</td><td><div class="bar">{bar}</div></td>{cells}</tr>')
    head = "<tr><th>operation</th><th></th>"
    head += "".join(f'<th class="n"><i class="chip {each}"></i>{each}</th>' for each in _OUTCOMES) + "</tr>"
    note = "Refused: certainly without effect. Unknown: the answer was lost, and the judges allow both."
    words = ", ".join(f"{escape(name[:80])} {count:,}" for name, count in outline.errors.most_common(6))
    why = f'<p class="quiet">Most frequent reasons: {words}.</p>' if words else ""
    return f'<p class="quiet">{note}</p><div class="wide"><table>{head}{"".join(rows)}</table></div>{why}'


def judged(folder: Folder) -> str:
    """How much each checker saw."""
    found = folder.verdict.judged
    ordered = [*(name for name in _JUDGES if name in found), *(name for name in found if name not in _JUDGES)]
    rows = "".join(
        f'<tr><td class="n">{found[name]:,}</td><td>{escape(name)}'
        f'<span class="quiet">{_JUDGES.get(name, "")}</span></td></tr>'
        for name in ordered
    )
    note = "A judge that saw nothing proves nothing."
    if "exports" not in found:
        note = "The nodes did not come to one journal: only what needs none was judged."
    return f'<p class="quiet">{note}</p><table class="judged">{rows}</table>'


def faults(folder: Folder, logs: Logs) -> str:
    began_ns = folder.verdict.began_ns
    rows = []
    for fault in folder.faults:
        at_s = (fault.began_ns - began_ns) / 1e9
        lasted_s = (fault.healed_ns - fault.began_ns) / 1e9
        evidence = escape(fault.evidence) or '<b class="alarm">no evidence</b>'
        rows.append(
            f'<tr><td class="n">{moment(at_s)}</td><td><i class="chip {family(fault.kind)}"></i>'
            f"{escape(fault.kind)}</td><td>{logs.all_linked(fault.targets)}</td>"
            f'<td class="n">{lasted_s:.1f} s</td><td>{evidence}</td></tr>'
        )
    head = '<tr><th class="n">at</th><th>fault</th><th>aimed at</th><th class="n">lasted</th>'
    table = f'<div class="wide"><table>{head}<th>evidence</th></tr>{"".join(rows)}</table></div>'
    if len(rows) <= _FAULTS_OPEN_MAX:
        return table
    return f"<details><summary>{len(rows):,} faults</summary>{table}</details>"
