"""What a run prints: where it ran, what it ran, and a table that can be pasted into a document."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.peer import Peer
from bench.throughput import Row

HEAD = (
    "| case | connections | peer | per second | p50 ms | p99 ms | refused | generator cores | peer cores |\n"
    "|---|--:|---|--:|--:|--:|--:|--:|--:|"
)


def machine(folder: Path) -> list[str]:
    """Processor, cores, memory, system, Python, the file system written to, and how busy it is already."""
    processor = next(
        (
            line.split(":", 1)[1].strip()
            for line in lines_of("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        platform.processor() or "unknown processor",
    )
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        f"Machine: {processor}, {len(os.sched_getaffinity(0))} cores, {memory_gb:.0f} GB memory",
        f"System: {platform.system()} {platform.release()}, Python {platform.python_version()} "
        f"({python_library()}), data on {file_system(folder)}",
        f"Time: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average before {os.getloadavg()[0]:.1f}",
    ]


def python_library() -> str:
    """Where the interpreter's functions are: a node is a tenth slower where they are in a shared object
    (docs/operating.md, "Which Python")."""
    mapped = lines_of("/proc/self/maps")
    if not mapped:
        return "of unknown build"
    return "shared library" if any("libpython" in each for each in mapped) else "library in the program"


def peers(of: Sequence[Peer]) -> list[str]:
    return [f"{peer.name} {peer.version}: {peer.command}" for peer in of]


def line(row: Row) -> str:
    p50, p99 = (f"{value:.2f}" if value is not None else "" for value in (row.p50_ms, row.p99_ms))
    cores = f"{row.generator_cores:.2f} | {row.peer_cores:.2f}"
    return (
        f"| {row.case} | {row.connections} | {row.peer} | {row.per_s:,.0f} | {p50} | {p99} "
        f"| {row.refused} | {cores} |"
    )


def save(rows: Sequence[Row], notes: Sequence[str], path: Path) -> None:
    """The same figures for a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"notes": list(notes), "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    )


def file_system(folder: Path) -> str:
    """Type of the file system a folder lies on (proc(5), mounts): a sync costs nothing on tmpfs."""
    mounts = [entry.split() for entry in lines_of("/proc/mounts")]
    inside = [entry for entry in mounts if folder.resolve().is_relative_to(entry[1])]
    return max(inside, key=lambda entry: len(entry[1]))[2] if inside else "unknown"


def lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
