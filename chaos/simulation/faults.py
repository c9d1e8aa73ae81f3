"""How bad the world is in one history, and who makes it so.

Each seed draws its own mix: some kinds of faults often, some never. Histories that lack a fault reach states
that the fault would hide (swarm testing: Groce et al., ISSTA 2012).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from consensus import limits
from consensus.config import CatchUp, ReadLease, Timing
from storage import limits as storage_limits

FAULTS = (
    "isolate",
    "split",
    "cut one way",
    "cut a link",
    "bridge",
    "hold back",
    "heal",
    "crash",
    "power cut",
    "crash at a write",
    "fail a sync",
    "slow disk",
    "pause",
    "all lose power",
    "crash after a vote",
    "fell new leaders",
    "transfer",
    "add",
    "promote",
    "remove",
    "replace",
    "lose a disk",
)


CLOCK_RATES = (0.85, 1.2)
"""How slow and how fast the clocks of nodes may run."""

CLOCK_DRIFT_PPM = 200_000
"""A bound on that, for leases."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Rates per message or per second, of one history."""

    seconds: float
    loss: float
    duplication: float
    delay_s_max: float
    late_rate: float
    in_order: bool
    faults_per_s: float
    weights: tuple[float, ...]
    aim_at_leader: float
    restart_s_max: float
    writers: int
    readers: int
    burst: int
    request_interval_s: float
    timing: Timing
    catch_up: CatchUp
    read_lease: ReadLease | None
    leases_alike: bool

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        return cls(
            seconds=rng.uniform(2.0, 6.0),
            loss=rng.choice((0.0, 0.02, 0.1, 0.3)),
            duplication=rng.choice((0.0, 0.05, 0.2)),
            delay_s_max=rng.choice((0.002, 0.01, 0.03)),
            late_rate=rng.choice((0.0, 0.02, 0.1)),
            in_order=rng.random() < 0.5,
            faults_per_s=rng.choice((0.5, 2.0, 4.0, 8.0)),
            weights=tuple(rng.choice((0.0, 0.0, 0.0, 1.0, 3.0)) for _ in FAULTS),
            aim_at_leader=rng.choice((0.0, 0.6, 0.9)),
            restart_s_max=rng.choice((0.03, 0.2, 1.0)),
            writers=rng.choice((2, 4, 10)),
            readers=rng.choice((1, 2, 4)),
            burst=rng.choice((0, 0, 30)),
            request_interval_s=rng.choice((0.02, 0.06, 0.15)),
            timing=_timing(rng),
            catch_up=CatchUp(
                rate_bytes_s=rng.choice((1_000_000, 100_000_000)),
                log_retained_size_bytes=rng.choice((1_000, 10_000, 1_000_000)),
            ),
            read_lease=rng.choice((None, None, ReadLease(CLOCK_DRIFT_PPM))),
            leases_alike=rng.random() < 0.5,
        )


def _timing(rng: random.Random) -> Timing:
    """Quick elections, whatever the defaults are, so that more happens in a virtual second; with narrow
    timeouts members stand in step, and votes are split."""
    return Timing(
        heartbeat_s=0.05,
        election_s_min=0.3,
        election_s_max=rng.choice((0.31, 0.6)),
        leader_fallback_s=rng.choice((0.3, 0.6)),
        hastened_s_min=0.02,
        hastened_s_max=rng.choice((0.025, 0.15)),
        tick_s=0.02,
    )


def small_limits(rng: random.Random) -> dict[str, float]:
    """Windows, batches and caches so small that a short history meets every edge of them."""
    return {
        "BATCH_ENTRIES_MAX": rng.choice((1, 4, 64)),
        "IN_FLIGHT_BATCHES_MAX": rng.choice((1, 3, 12)),
        "APPLY_ENTRIES_PER_TICK_MAX": rng.choice((1, 5, 1024)),
        "LOG_CACHE_ENTRIES_MAX": rng.choice((4, 64, 4096)),
        "LOG_SCAN_ENTRIES_MAX": rng.choice((3, 4096)),
        "LOG_RETAINED_ENTRIES": rng.choice((2, 8, 4096)),
        "LOG_COMPACTION_STEP_ENTRIES": rng.choice((2, 8)),
        "PROPOSALS_OUTSTANDING_MAX": rng.choice((4, 8192)),
        "READS_WAITING_MAX": rng.choice((2, 65536)),
        "LOG_COMPACTION_STEP_SIZE_BYTES": 500,
        "SNAPSHOT_CHUNK_SIZE_BYTES": rng.choice((5_000, 50_000)),
        "SNAPSHOT_CHUNKS_IN_FLIGHT_MAX": rng.choice((1, 4, 16)),
        "SNAPSHOT_RETRY_S": 0.2,
        "SNAPSHOT_ABANDONED_S": 1.0,
        "CAUGHT_UP_LAG_ENTRIES_MAX": rng.choice((0, 8, 256)),
    }


def small_storage_limits(seed: int) -> dict[str, float]:
    """As `small_limits`, of the storage package; from the seed alone: nothing else changes with it."""
    rng = random.Random(seed)
    return {
        "STATE_BUCKETS_KEPT_MAX": rng.choice((0, 4, 98_304)),
        "STATE_REDO_MAX": rng.choice((0, 10, 262_144)),
        "STATE_WRITE_BACK_MIN": rng.choice((1, 64)),
        "RECENT_CURRENT_ROWS": rng.choice((1, 32_768)),
        "CURRENT_ROWS_ASCENDING_MIN": rng.choice((1, 8)),
    }


class SmallLimits:
    """These limits of consensus and storage while a history runs; what was there comes back afterwards."""

    def __init__(self, values: dict[str, float]) -> None:
        self._values = values
        self._owners = {name: limits if hasattr(limits, name) else storage_limits for name in values}
        self._before = {name: getattr(owner, name) for name, owner in self._owners.items()}

    def __enter__(self) -> None:
        self._set(self._values)

    def __exit__(self, *raised: object) -> None:
        self._set(self._before)

    def _set(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            setattr(self._owners[name], name, value)
