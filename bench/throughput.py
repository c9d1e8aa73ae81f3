"""Throughput and latency of single writes and reads, and of bulk load, peer beside peer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from time import monotonic, process_time

from bench import limits
from bench.connection import BenchmarkError, Measurement, measure
from bench.peer import Load, Peer
from bench.processes import processor_s


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    seconds: float
    rounds: int
    connections: Sequence[int]
    bulk_documents: int


@dataclass(frozen=True)
class Row:
    """One line of the report; latencies are of one request (absent for a stream).

    The processor time says who was busy: on two cores the generator takes from what it measures.
    """

    case: str
    connections: int
    peer: str
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    refused: int
    generator_cores: float
    peer_cores: float


CASES: dict[str, Callable[[Peer], Sequence[bytes]]] = {
    "put one document": lambda peer: peer.puts(),
    "strong get": lambda peer: peer.gets(),
}


async def run(peers: Sequence[Peer], plan: Plan, report: Callable[[Row], None]) -> list[Row]:
    """Measure every case; peers take turns within a case, so that a slow minute hits them alike."""
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        report(row)

    for peer in peers:
        await peer.check()
        await fill(peer)
    for case, requests_of in CASES.items():
        requests = {peer.name: requests_of(peer) for peer in peers}
        for connections in plan.connections:
            results = {peer.name: Measurement() for peer in peers}
            for peer in in_turns(peers, plan.rounds):
                await rest(peers)
                part = await measure_turn(peer, requests[peer.name], connections, plan.seconds)
                results[peer.name].add(part)
            for peer in peers:
                add(row_of(case, connections, peer, results[peer.name]))
    for turn in zip_longest(*(peer.loads for peer in peers)):
        for peer, load in zip(peers, turn, strict=True):
            if load is not None:
                await rest(peers)
                add(await load_turn(peer, load, plan))
    return rows


async def rest(peers: Sequence[Peer]) -> None:
    """Wait until no peer has worked for a while: what one still does after its turn (merges, snapshots) would
    take from the other's, and what is left undone from its own next one."""
    deadline_s = monotonic() + limits.REST_TIMEOUT_S
    used_s, rested_s = [peer_cpu_s(peer) for peer in peers], 0.0
    while rested_s < limits.REST_S:
        if monotonic() > deadline_s:
            raise BenchmarkError(f"the peers did not come to rest within {limits.REST_TIMEOUT_S:g} s")
        await asyncio.sleep(limits.REST_PERIOD_S)
        before_s, used_s = used_s, [peer_cpu_s(peer) for peer in peers]
        cores = sum(now - before for now, before in zip(used_s, before_s, strict=True)) / limits.REST_PERIOD_S
        rested_s = rested_s + limits.REST_PERIOD_S if cores <= limits.REST_CORES_MAX else 0.0


async def measure_turn(
    peer: Peer, requests: Sequence[bytes], connections: int, seconds: float
) -> Measurement:
    leader = await peer.leader()
    generator_s, peer_s = process_time(), peer_cpu_s(peer)
    part = await measure(leader, requests, connections=connections, seconds=seconds)
    part.generator_cpu_s = process_time() - generator_s
    part.peer_cpu_s = peer_cpu_s(peer) - peer_s
    return part


async def load_turn(peer: Peer, load: Load, plan: Plan) -> Row:
    generator_s, peer_s = process_time(), peer_cpu_s(peer)
    loaded = await peer.load(load, plan.bulk_documents, plan.seconds)
    resumed = f" (resumed {loaded.resumed} times)" if loaded.resumed else ""
    return Row(
        case=load.name + resumed,
        connections=load.streams,
        peer=peer.name,
        per_s=loaded.documents / loaded.elapsed_s,
        p50_ms=None,
        p99_ms=None,
        refused=0,
        generator_cores=(process_time() - generator_s) / loaded.elapsed_s,
        peer_cores=(peer_cpu_s(peer) - peer_s) / loaded.elapsed_s,
    )


def peer_cpu_s(peer: Peer) -> float:
    return sum(processor_s(pid) for pid in peer.pids())


def in_turns(peers: Sequence[Peer], rounds: int) -> Iterator[Peer]:
    """Each peer once a round, in the opposite order every other round."""
    for number in range(rounds):
        yield from peers if number % 2 == 0 else reversed(peers)


def row_of(case: str, connections: int, peer: Peer, result: Measurement) -> Row:
    return Row(
        case=case,
        connections=connections,
        peer=peer.name,
        per_s=result.answered_per_s,
        p50_ms=result.percentile_ms(50),
        p99_ms=result.percentile_ms(99),
        refused=result.refused,
        generator_cores=result.generator_cpu_s / result.elapsed_s,
        peer_cores=result.peer_cpu_s / result.elapsed_s,
    )


async def fill(peer: Peer) -> None:
    """Write every key once: no read misses, and the peer is warm."""
    requests = peer.puts()
    missing = len(requests)
    for _ in range(limits.FILL_ATTEMPTS_MAX):
        part = await measure(
            await peer.leader(), requests[-missing:], connections=64, seconds=limits.FILL_PERIOD_S
        )
        # A change of leader refuses some; which ones is not noted, so they are all written again.
        missing -= 0 if part.refused else len(part.latencies_s)
        if missing <= 0:
            return
    raise BenchmarkError(f"{peer.name} did not take {missing} of {len(requests)} documents")
