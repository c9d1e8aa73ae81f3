"""The report as one page: drawings, tables, style and script in a single file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import msgspec

from chaos.checkers.anomaly import Anomaly
from chaos.folder import Folder
from chaos.outline import Outline
from chaos.report import tables
from chaos.report.broken import broken_promises
from chaos.report.links import Logs, files
from chaos.report.overview import overview
from chaos.report.series import Buckets, bucket_s
from chaos.report.timeline import Happenings, draw, width_of

_HERE = Path(__file__).parent
_PIXELS_PER_BUCKET = 3.0
_LEGEND = (
    ("Throughput", (("writes", "writes"), ("reads", "strong reads"), ("gap", "no write acknowledged"))),
    ("Not done", (("refused", "refused"), ("unknown", "unknown"))),
    ("Latency", (("p50", "median"), ("p99", "99 %"))),
    (
        "Nodes",
        (
            ("leader", "leader"),
            ("follower", "follower"),
            ("candidate", "candidate"),
            ("learner", "learner"),
            ("stranger", "not a member"),
            ("silent", "silent"),
        ),
    ),
    (
        "Faults of",
        (
            ("processes", "processes"),
            ("network", "network"),
            ("disks", "disks"),
            ("clocks", "clocks"),
            ("operations", "operations"),
        ),
    ),
)


def page(folder: Folder) -> str:
    """The whole file. It asks nothing of the network and links only to its neighbors in the folder."""
    outline, happenings = _happenings(folder)
    timeline, logs = draw(happenings), Logs(folder)
    # A script element ends at "</", wherever it stands.
    data = msgspec.json.encode(
        {
            "seconds": happenings.seconds,
            "began": folder.verdict.began,
            "series": happenings.series,
            "faults": _fault_times(folder),
        }
    )
    embedded = data.decode().replace("<", "\\u003c")
    settings = folder.settings
    title = f"Stele, seed {settings.seed}: {'no promise broken' if folder.verdict.passed else 'BROKEN'}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{(_HERE / "style.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{_header(folder)}
{tables.tiles(folder, outline)}
{broken_promises(folder, logs)}
<section class="card" id="timeline">
<div class="head"><h2>What happened</h2>{_legend(folder)}</div>
{overview(happenings)}
<div class="timeline"><div class="fixed">{timeline.labels}</div>
<div class="scroll">{timeline.plot}</div></div>
<div id="readout" hidden></div>
</section>
<div class="columns">
<section class="card"><h2>How long writes stopped</h2>{tables.availability(folder)}</section>
<section class="card"><h2>How operations ended</h2>{tables.outcomes(outline)}</section>
<section class="card"><h2>What was judged</h2>{tables.judged(folder)}</section>
</div>
<section class="card"><h2>Every fault and its evidence</h2>{tables.faults(folder, logs)}</section>
<section class="card"><h2>Files</h2>{files(folder, logs)}</section>
</main>
<script type="application/json" id="data">{embedded}</script>
<script>{(_HERE / "script.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _happenings(folder: Folder) -> tuple[Outline, Happenings]:
    verdict = folder.verdict
    seconds = max((verdict.ended_ns - verdict.began_ns) / 1e9, 0.001)
    buckets_max = math.floor(width_of(seconds) / _PIXELS_PER_BUCKET)
    width_s = bucket_s(seconds, buckets_max)
    outline, buckets = Outline(), Buckets(verdict.began_ns, seconds, width_s)
    for operation in folder.history():
        outline.add(operation)
        buckets.add(operation)
    return outline, Happenings(
        began_ns=verdict.began_ns,
        ended_ns=verdict.ended_ns,
        zones=folder.settings.zones,
        series=buckets.series(),
        faults=folder.faults,
        sightings=folder.sightings,
        gaps=outline.gaps(),
        last_ns=outline.last_ns,
        anomalies=[Anomaly(each.promise, each.what, each.operations) for each in verdict.broken],
    )


def _fault_times(folder: Folder) -> Sequence[tuple[float, float, str]]:
    began_ns = folder.verdict.began_ns
    return [
        (
            round((fault.began_ns - began_ns) / 1e9, 2),
            round((fault.healed_ns - began_ns) / 1e9, 2),
            f"{fault.kind}: {', '.join(fault.targets)}",
        )
        for fault in folder.faults
    ]


def _header(folder: Folder) -> str:
    settings, verdict = folder.settings, folder.verdict
    if verdict.passed:
        judgement = '<p class="verdict passed"><span>✓</span> No promise was broken</p>'
    else:
        count = len(verdict.broken)
        found = f"{count} anomal{'y' if count == 1 else 'ies'} found"
        judgement = f'<p class="verdict broken"><span>✕</span> {found}</p>'
    zones = sorted(set(settings.zones.values()))
    minutes = settings.seconds / 60
    again = f"python -m chaos run --seed {settings.seed} --minutes {minutes:g} --nodes {len(settings.zones)} "
    again += f"--zones {len(zones)} --clients {settings.clients}"
    if settings.scenario:
        again = f"python -m chaos run --scenario {settings.scenario} --seed {settings.seed}"
    facts = [
        settings.scenario or "random faults",
        f"{len(settings.zones)} nodes in {len(zones)} zones",
        f"{settings.clients} clients",
        f"Stele {settings.version} {settings.revision}".strip(),
        settings.began.replace("T", " ").replace("Z", " UTC"),
    ]
    return f"""<header>
<div><p class="eyebrow">Stele fault laboratory</p>
<h1>Seed {settings.seed}</h1>
<p class="facts">{" · ".join(escape(fact) for fact in facts)}</p>
<p class="again"><code>{escape(again)}</code></p></div>
{judgement}
</header>"""


def _legend(folder: Folder) -> str:
    groups = []
    anomaly = ("Anomalies", (("anomaly", "last operation concerned"),))
    for name, entries in (*_LEGEND, *([anomaly] if folder.verdict.broken else [])):
        keys = "".join(f'<span class="key"><i class="{kind}"></i>{words}</span>' for kind, words in entries)
        groups.append(f'<span class="group"><b>{name}</b>{keys}</span>')
    return f'<div class="legend">{"".join(groups)}</div>'
