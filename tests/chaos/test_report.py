"""The report of a run: made of its folder alone, complete in itself, and true."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from chaos import folder as folders
from chaos import report
from chaos.faults.fault import Happened
from chaos.folder import Broken, Settings, Verdict, write_settings, write_verdict
from chaos.history import Operation, Shown, Write, write_history
from chaos.observer import Sighting
from chaos.report.clock import clock
from chaos.report.families import family
from chaos.report.overview import overview
from chaos.report.series import Buckets, bucket_s, quantile
from chaos.report.timeline import Happenings, draw, round_step


def operation(ended_s: float, took_ms: float = 5.0, *, read: bool = False, **members: object) -> Operation:
    ended_ns = int(ended_s * 1e9)
    known: dict[str, object] = {
        "client": 0,
        "kind": "get" if read else "put",
        "ledger": "l",
        "writes": [] if read else [Write("t", "k", {"n": 1}, 0)],
        "invoked_ns": ended_ns - int(took_ms * 1e6),
        "completed_ns": ended_ns,
        "outcome": "ok",
    }
    return msgspec.convert({**known, **members}, Operation)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten seconds, one fault, and one broken promise whose words try to be markup."""
    write_settings(
        tmp_path,
        Settings(
            seed=7,
            version="0.1.0",
            revision="abc",
            began="2026-01-01T00:00:00Z",
            seconds=10,
            zones={"n0": "zone-a", "n1": "zone-b"},
            clients=2,
            network="namespaces",
        ),
    )
    history = [operation(second / 10) for second in range(100) if not 40 <= second < 60]
    write_history(tmp_path / "history.jsonl", history)
    fault = Happened(
        kind="kill", targets=("n0",), began_ns=4 * 10**9, healed_ns=5 * 10**9, evidence="</script><b>"
    )
    (tmp_path / "faults.jsonl").write_bytes(msgspec.json.encode(fault))
    for node in ("n0", "n5"):
        log = tmp_path / "cluster" / node / "steled.log"
        log.parent.mkdir(parents=True)
        log.write_text("{}\n", encoding="utf-8")
    seen = [Sighting(at_ns=0, node="n0", role="leader", term=3)]
    (tmp_path / "nodes.jsonl").write_bytes(b"\n".join(msgspec.json.encode(each) for each in seen))
    broken = Broken(promise="p", what="<script>alert(1)</script>", operations=(history[3],))
    verdict = Verdict(
        passed=False,
        began_ns=0,
        ended_ns=10 * 10**9,
        operations=len(history),
        faults={"kill": 1},
        unavailable_s={"kill": [2.1]},
        recovery_s={"kill": [1.23]},
        judged={"transfers": 0, "blocks": 4711},
        broken=[broken],
    )
    write_verdict(tmp_path, verdict)
    return tmp_path


def test_it_is_complete_in_itself_and_takes_no_markup_from_a_run(folder: Path) -> None:
    page = report.write(folder).read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [link for link in links if not link.startswith("#") and not (folder / link).is_file()] == []
    assert {"cluster/n0/steled.log", "cluster/n5/steled.log", "history.jsonl"} <= set(links)
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "&lt;script&gt;alert(1)" in page


def test_it_shows_the_verdict_the_stop_of_writes_and_the_leader(folder: Path) -> None:
    page = report.write(folder).read_text(encoding="utf-8")
    assert "1 anomaly found" in page
    assert "no write acknowledged for 2.10 s" in page
    assert "n0: leader, term 3, 9.9 s" in page
    assert "kill: n0, 1.0 s." in page


def test_it_shows_what_the_terminal_does(folder: Path) -> None:
    page = report.write(folder).read_text(encoding="utf-8")
    assert "1.23 s" in page
    assert '<td class="n">4,711</td><td>blocks' in page
    assert '<td class="n">0</td><td>transfers' in page


def test_an_anomaly_comes_with_what_was_read_and_the_faults_meanwhile(folder: Path) -> None:
    shown = (Shown(1, 9, {"n": 2}), Shown(0, 4, {"n": 1}))
    read = operation(
        4.5, read=True, kind="history", table="t", key="k", as_of_seq=12, shown=shown, attempts=2
    )
    verdict = msgspec.structs.replace(
        folders.read(folder).verdict,
        broken=[Broken(promise=f"p{number}", what="w", operations=(read,)) for number in range(60)],
    )
    write_verdict(folder, verdict)
    page = report.write(folder).read_text(encoding="utf-8")
    assert "t/k as of block 12 → versions 1 of block 9, 0 of block 4" in page
    assert "ok in 2 attempts" in page
    assert (
        'kill of <a href="cluster/n0/steled.log">n0</a> at <a href="#timeline" data-at="4.000">0:04</a>'
        in page
    )
    assert "<summary>42 more</summary>" in page
    assert "and 10 more in verdict.json" in page


def test_many_faults_at_once_are_drawn_without_one_name_on_another() -> None:
    happened = [
        Happened(
            kind="zone cut off", targets=("n0",), began_ns=n * 10**9, healed_ns=(n + 2) * 10**9, evidence=""
        )
        for n in range(100)
    ]
    buckets = Buckets(0, 3600.0, 1.0)
    buckets.add(operation(1.0))
    happenings = Happenings(0, 3600 * 10**9, {"n0": "zone-a"}, buckets.series(), happened, [], [], [], 0)
    plot = draw(happenings).plot
    places = re.findall(r'class="by-fault" x="([\d.]+)" y="([\d.]+)">zone cut off', plot)
    assert plot.count('class="fault network"') == 100
    assert len(places) > 25
    for row in {y for _, y in places}:
        ends = [float(x) for x, y in places if y == row]
        assert all(later - earlier > 70 for earlier, later in pairwise(ends))
    assert overview(happenings).count('class="fault network"') == 100


def test_a_short_run_needs_no_overview_and_a_long_one_does(folder: Path) -> None:
    assert '<div class="whole" hidden>' in report.write(folder).read_text(encoding="utf-8")
    long = msgspec.structs.replace(folders.read(folder).verdict, ended_ns=3600 * 10**9)
    write_verdict(folder, long)
    assert '<div class="whole">' in report.write(folder).read_text(encoding="utf-8")


def test_it_tells_when_healing_took_longer_than_the_load(folder: Path) -> None:
    assert "clients and observer have ended" not in report.write(folder).read_text(encoding="utf-8")
    write_verdict(folder, msgspec.structs.replace(folders.read(folder).verdict, ended_ns=20 * 10**9))
    page = report.write(folder).read_text(encoding="utf-8")
    assert "clients and observer have ended" in page
    assert "8 a second" in page


def test_buckets_count_what_ended_in_them() -> None:
    history = [
        operation(0.1, took_ms=10),
        operation(0.2, took_ms=30),
        operation(0.9, read=True, took_ms=20),
        operation(1.5, outcome="unknown"),
        operation(2.5, outcome="refused"),
    ]
    buckets = Buckets(0, 2.0, 1.0)
    for each in history:
        buckets.add(each)
    found = buckets.series()
    assert (found.writes, found.reads) == ([2, 0], [1, 0])
    assert (found.unknown, found.refused) == ([0, 1], [0, 1])
    assert found.p50_ms == [20, None]
    assert found.p99_ms == [30, None]


def test_round_numbers() -> None:
    assert bucket_s(45, 360) == 0.25
    assert bucket_s(3600, 4800) == 1.0
    assert [round_step(largest) for largest in (3, 740, 4100)] == [1, 200, 2000]
    assert quantile([1, 2, 3, 4], 0.5) == 2
    assert [clock(61.29), clock(61.29, 1), clock(3599.9999, 3)] == ["1:01", "1:01.2", "59:59.999"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("kill all", "processes"),
        ("zone cut off", "network"),
        ("rolling restart", "operations"),
        ("certificate rotation", "operations"),
        ("wiped disk", "disks"),
        ("power loss of all", "disks"),
        ("loss", "network"),
        ("rolling upgrade", "operations"),
        ("bit flip", "disks"),
        ("clock jump", "clocks"),
    ],
)
def test_kinds_have_families(kind: str, expected: str) -> None:
    assert family(kind) == expected
