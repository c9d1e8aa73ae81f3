"""Memory of each node while many documents are loaded."""

from collections.abc import Callable

from bench import bulk, limits, processes
from bench.connection import BenchmarkError
from bench.stele import BULK_PATH, NODES, Stele


async def run(peer: Stele, documents: int, report: Callable[[str], None]) -> int:
    """Load documents in streams of a bounded size; returns the highest memory of a node in bytes.

    The highest is what the kernel noted (VmHWM), so nothing between two readings is missed.
    """
    report(
        "| documents | per second |"
        + "".join(f" node {n} MB |" for n in range(1, NODES + 1))
        + " highest MB |"
    )
    report("|--:|--:|" + "--:|" * (NODES + 1))
    pids = list(peer.pids())
    loaded, highest = 0, 0
    while loaded < documents:
        share = min(limits.MEMORY_DOCUMENTS_A_STREAM, documents - loaded)
        part = await bulk.load(peer.leader, BULK_PATH, streams=1, documents=share, first=loaded)
        loaded += share
        if list(peer.pids()) != pids:
            raise BenchmarkError("a node was started again during the run")
        memory = [processes.memory_bytes(pid) for pid in pids]
        highest = max(highest, *(most for _, most in memory))
        now = "".join(f" {resident / 1e6:.0f} |" for resident, _ in memory)
        report(f"| {loaded:,} | {share / part.elapsed_s:,.0f} |{now} {highest / 1e6:.0f} |")
    return highest
