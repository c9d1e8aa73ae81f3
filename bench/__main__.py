"""``python -m bench``: what is measured, for how long, and where the data goes."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import uvloop
from cyclopts import App, Parameter, validators

from bench import etcd, flights, limits, memory, report, statemap, throughput
from bench.connection import BenchmarkError
from bench.peer import Peer
from bench.stele import Stele

RESULTS = Path(__file__).parent / "results"

app = App(name="python -m bench", help=__doc__, version_flags=())

Seconds = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=limits.SECONDS_A_MEASUREMENT_MAX))]
Documents = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=limits.DOCUMENTS_MAX))]


@app.default
def compare(
    *,
    quick: bool = False,
    seconds: Seconds | None = None,
    rounds: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=20))] | None = None,
    documents: Documents | None = None,
    only: str | None = None,
    insecure: bool = False,
    seals: bool = True,
    data: Path | None = None,
) -> None:
    """Measure single puts, strong gets and bulk load; etcd too when it is installed.

    Parameters
    ----------
    quick: two seconds a measurement, one round, 1 and 64 connections
    seconds: how long each measurement takes
    rounds: how often the peers take turns in each case
    documents: how many documents are loaded in bulk
    only: the name of the one peer to measure, stele or etcd
    insecure: let Stele's nodes replicate over plain TCP instead of mutual TLS
    seals: let Stele seal, so that what it holds can be proven
    data: folder for the clusters' data; by default one under var/, removed at the end
    """
    plan = throughput.Plan(
        seconds=seconds or (2.0 if quick else limits.SECONDS_A_MEASUREMENT),
        rounds=rounds or (1 if quick else limits.ROUNDS),
        connections=limits.CONNECTIONS_QUICK if quick else limits.CONNECTIONS,
        bulk_documents=documents or (limits.BULK_DOCUMENTS_QUICK if quick else limits.BULK_DOCUMENTS),
    )

    async def measured(peers: Sequence[Peer], notes: list[str]) -> None:
        print(report.HEAD, flush=True)
        rows = await throughput.run(peers, plan, lambda row: print(report.line(row), flush=True))
        path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
        report.save(rows, notes, path)
        print(f"\nSaved as {path}")

    _with_clusters(measured, data, only, insecure=insecure, seals=seals)


@app.command(name="memory")
def memory_command(*, documents: Documents = limits.MEMORY_DOCUMENTS, data: Path | None = None) -> None:
    """Load documents into Stele and watch the memory of its nodes.

    Parameters
    ----------
    documents: how many are loaded
    data: folder for the cluster's data; by default one under var/, removed at the end
    """

    async def measured(peers: Sequence[Peer], notes: list[str]) -> None:
        (stele,) = peers
        if not isinstance(stele, Stele):
            raise BenchmarkError("only Stele's memory is measured")
        highest = await memory.run(stele, documents, lambda text: print(text, flush=True))
        bound = limits.NODE_MEMORY_BYTES_MAX
        print(f"\nHighest memory of a node: {highest / 1e6:.0f} MB; the bound is {bound / 1e6:.0f} MB")
        if highest > bound:
            raise BenchmarkError("a node took more memory than it may")

    _with_clusters(measured, data, only="stele")


@app.command(name="statemap")
def state_map_command(*, documents: Documents = limits.STATE_MAP_DOCUMENTS, data: Path | None = None) -> None:
    """Measure seals, proofs and the start on one store, without a cluster.

    Parameters
    ----------
    documents: how many are written
    data: folder for the store; by default one under var/, removed at the end
    """
    Path("var").mkdir(exist_ok=True)
    folder = data or Path(tempfile.mkdtemp(prefix="bench-", dir="var"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print("\n".join(report.machine(folder)), end="\n\n", flush=True)
        statemap.run(documents, folder, lambda text: print(text, flush=True))
    finally:
        if data is None:
            shutil.rmtree(folder)


@app.command(name="flights")
def flights_command(*, limit: Documents = limits.DOCUMENTS_MAX) -> None:
    """Write real documents as NDJSON for `stele bulk`: flights that left New York in 2013.

    Parameters
    ----------
    limit: how many at most; the file has 336,776
    """
    sys.stdout.writelines(flights.bulk_lines(limit))


def _with_clusters(
    measured: Callable[[Sequence[Peer], list[str]], Coroutine[Any, Any, None]],
    data: Path | None,
    only: str | None,
    *,
    insecure: bool = False,
    seals: bool = True,
) -> None:
    """Start the clusters, say what runs where, measure, and end every process that was started."""
    Path("var").mkdir(exist_ok=True)
    folder = data or Path(tempfile.mkdtemp(prefix="bench-", dir="var"))
    kinds: dict[str, Callable[[Path], Peer]] = {"stele": partial(Stele, insecure=insecure, seals=seals)}
    if etcd.installed():
        kinds["etcd"] = etcd.Etcd
    if only is not None:
        if only not in kinds:
            raise BenchmarkError(f"there is no peer {only} here; installed are {', '.join(kinds)}")
        kinds = {only: kinds[only]}
    peers: list[Peer] = []

    async def run() -> None:
        for name, kind in kinds.items():
            (folder / name).mkdir(parents=True)
            peers.append(kind(folder / name))
            await peers[-1].start()
        notes = [*report.machine(folder), *report.peers(peers)]
        print("\n".join(notes), end="\n\n", flush=True)
        await measured(peers, notes)

    try:
        uvloop.run(run())
    finally:
        for peer in peers:
            peer.stop()
        if data is None:
            shutil.rmtree(folder)


def main() -> int:
    try:
        app()
    except (BenchmarkError, ExceptionGroup, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
