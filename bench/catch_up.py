"""A follower that missed many writes catches up under load: how long it takes, and what it costs."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Sequence
from time import perf_counter

from bench import bulk, limits, processes
from bench.connection import BenchmarkError, Measurement, ask, measure, request
from bench.stele import BULK_PATH, Stele

CONNECTIONS = 16


async def run(peer: Stele, writes: int, seconds: float, report: Callable[[str], None]) -> None:
    """Stops a follower (SIGSTOP), writes, lets it go on; measures single puts before, meanwhile and after.

    The nodes and the generator share the machine: what the follower's own processor time takes from the
    leader here, it would not take elsewhere. The leader's time for a put says what remains.
    """
    requests = peer.puts()
    follower_id, pid = await peer.follower()
    report("| when | puts a second | p99 ms | leader's CPU us a put |\n|:--|--:|--:|--:|")
    before = await _measured(peer, requests, seconds)
    report(_line("before, all nodes up", before))
    os.kill(pid, signal.SIGSTOP)
    try:
        loaded = await bulk.load(peer.leader, BULK_PATH, streams=2, documents=writes)
        report(_line("with one node away", await _measured(peer, requests, seconds)))
    finally:
        os.kill(pid, signal.SIGCONT)
    began_s = perf_counter()
    meanwhile = Measurement()
    while not await _caught_up(peer, follower_id):
        meanwhile.add(await _measured(peer, requests, 0.5))
        if perf_counter() - began_s > limits.CATCH_UP_TIMEOUT_S:
            raise BenchmarkError(f"{follower_id} did not catch up")
    took_s = perf_counter() - began_s
    report(_line("while it catches up", meanwhile))
    report(_line("after", await _measured(peer, requests, seconds)))
    kept = meanwhile.answered_per_s / before.answered_per_s
    report(f"\n{loaded.documents:,} documents were loaded in {loaded.elapsed_s:.1f} s without {follower_id}.")
    report(f"It caught up in {took_s:.1f} s; puts went on at {kept:.0%} of the rate before.")


async def _measured(peer: Stele, requests: Sequence[bytes], seconds: float) -> Measurement:
    pid = await peer.leader_pid()
    before_s = processes.processor_s(pid)
    result = await measure(await peer.leader(), requests, connections=CONNECTIONS, seconds=seconds)
    result.peer_cpu_s = processes.processor_s(pid) - before_s
    return result


def _line(when: str, result: Measurement) -> str:
    leader_us = 1e6 * result.peer_cpu_s / len(result.latencies_s)
    return f"| {when} | {result.answered_per_s:,.0f} | {result.percentile_ms(99):.1f} | {leader_us:.0f} |"


async def _caught_up(peer: Stele, follower_id: str) -> bool:
    """Whether the leader knows the follower to be at most a few entries behind."""
    status, body = await ask(await peer.leader(), request("GET", "/v1/cluster"))
    if status != 200:
        await asyncio.sleep(0.1)
        return False
    cluster = json.loads(body)
    (member,) = [each for each in cluster["members"] if each["id"] == follower_id]
    behind: int = cluster["commit_index"] - member.get("match_index", 0)
    return behind <= limits.CATCH_UP_LAG_ENTRIES
