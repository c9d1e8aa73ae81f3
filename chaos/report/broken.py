"""Broken promises, with the operations that show them and the faults that were at work meanwhile."""

from __future__ import annotations

import json
from html import escape

from chaos.folder import Broken, Folder
from chaos.history import Operation
from chaos.report.clock import moment
from chaos.report.families import family
from chaos.report.links import Logs
from chaos.report.series import latency_ms

_OPEN_MAX = 8
"""One broken promise tends to show again and again; what comes after so many is folded away."""
_SHOWN_MAX = 50
_OPERATIONS_MAX = 20
_FAULTS_MAX = 6
_DATA_MAX = 400


def broken_promises(folder: Folder, logs: Logs) -> str:
    """Nothing when all is well."""
    found = folder.verdict.broken
    if not found:
        return ""
    articles = [_article(folder, logs, each) for each in found[:_SHOWN_MAX]]
    shown, folded = "".join(articles[:_OPEN_MAX]), "".join(articles[_OPEN_MAX:])
    if folded:
        shown += f"<details><summary>{len(articles) - _OPEN_MAX} more</summary>{folded}</details>"
    more = len(found) - _SHOWN_MAX
    rest = f'<p class="quiet">and {more:,} more in verdict.json</p>' if more > 0 else ""
    return f'<section class="card alarm"><h2>Broken promises</h2>{shown}{rest}</section>'


def _article(folder: Folder, logs: Logs, broken: Broken) -> str:
    began_ns = folder.verdict.began_ns
    rows = "".join(_operation(began_ns, each) for each in broken.operations[:_OPERATIONS_MAX])
    head = '<tr><th class="n">began</th><th class="n">took</th><th class="n">client</th><th>what</th>'
    head += '<th>outcome</th><th class="n">block</th></tr>'
    table = f'<div class="wide"><table class="concerned">{head}{rows}</table></div>' if rows else ""
    more = len(broken.operations) - _OPERATIONS_MAX
    rest = f'<p class="quiet">and {more:,} more operations in verdict.json</p>' if more > 0 else ""
    words = f"<h3>{escape(broken.promise)}</h3><p>{escape(broken.what)}</p>"
    return f"<article>{words}{table}{rest}{_meanwhile(folder, logs, broken)}</article>"


def _operation(began_ns: int, operation: Operation) -> str:
    attempts = f" in {operation.attempts} attempts" if operation.attempts > 1 else ""
    error = f" ({operation.error})" if operation.error else ""
    return (
        f'<tr><td class="n">{moment((operation.invoked_ns - began_ns) / 1e9, 3)}</td>'
        f'<td class="n">{latency_ms(operation):,.1f} ms</td><td class="n">{operation.client}</td>'
        f"<td><b>{escape(operation.kind)}</b> {escape(_what(operation))}</td>"
        f"<td>{escape(operation.outcome + attempts + error)}</td>"
        f'<td class="n">{"–" if operation.seq is None else operation.seq}</td></tr>'
    )


def _what(operation: Operation) -> str:
    """What was asked, and of a read what it was shown."""
    if operation.writes:
        over = "" if operation.over is None else f", to replace {_data(operation.over)}"
        return ", ".join(f"{each.table}/{each.key} = {_data(each.data)}" for each in operation.writes) + over
    document = f"{operation.table}/{operation.key}"
    if operation.as_of_seq is not None:
        document += f" as of block {operation.as_of_seq}"
    if operation.outcome != "ok":
        return document
    if operation.kind == "history":
        shown = ", ".join(f"{each.version} of block {each.seq}" for each in operation.shown)
        return f"{document} → versions {shown or 'none'}"
    if operation.version is None:
        return f"{document} → nothing"
    return f"{document} → version {operation.version}: {_data(operation.data)}"


def _data(data: dict[str, object] | None) -> str:
    words = "deleted" if data is None else json.dumps(data, ensure_ascii=False)
    return words if len(words) <= _DATA_MAX else words[:_DATA_MAX] + "…"


def _meanwhile(folder: Folder, logs: Logs, broken: Broken) -> str:
    """The faults between the beginning of the first operation and the end of the last one."""
    if not broken.operations:
        return ""
    first_ns = min(each.invoked_ns for each in broken.operations)
    last_ns = max(each.completed_ns for each in broken.operations)
    found = [each for each in folder.faults if each.began_ns <= last_ns and each.healed_ns >= first_ns]
    named = [
        f'<i class="chip {family(each.kind)}"></i>{escape(each.kind)} of {logs.all_linked(each.targets)}'
        f" at {moment((each.began_ns - folder.verdict.began_ns) / 1e9)}"
        for each in found[:_FAULTS_MAX]
    ]
    more = f", and {len(found) - _FAULTS_MAX} more" if len(found) > _FAULTS_MAX else ""
    return f'<p class="quiet">Meanwhile: {", ".join(named) or "no fault"}{more}</p>'
