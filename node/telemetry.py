"""What a node tells about itself: JSON log lines on stderr, and Prometheus metrics."""

from __future__ import annotations

import asyncio
import logging
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from consensus.config import ReplicaStatus, Role

if TYPE_CHECKING:
    from node.http.services import Services

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_COMMANDS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def configure_logging(level: str, node_id: str) -> None:
    """structlog and the standard library's loggers, as JSON lines on stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _with_node(node_id),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _with_node(node_id: str) -> structlog.typing.Processor:
    def add(
        _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["node"] = node_id
        return event

    return add


class Latencies(Collector):
    """Times from requests' headers to the end of their answers, as a histogram a route and status.

    prometheus_client's Histogram takes locks for threads that there are not: 3.5 us a request.
    """

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str, int], tuple[list[int], list[float]]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. Only on the event loop, as `collect`."""
        label = (method, route, status)
        known = self._by_label.get(label)
        if known is None:
            # Bounded: methods and templates come from the route table, statuses from the catalogue.
            known = self._by_label[label] = [0] * (len(_LATENCY_BUCKETS_S) + 1), [0.0]
        counts, sum_s = known
        counts[bisect_left(_LATENCY_BUCKETS_S, seconds)] += 1
        sum_s[0] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "stele_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=("method", "route", "status"),
        )
        bounds = [*map(str, _LATENCY_BUCKETS_S), "+Inf"]
        for (method, route, status), (counts, sum_s) in self._by_label.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((method, route, str(status)), buckets, sum_s[0])
        yield family


class Metrics:
    """The node's metrics. What changes with every request is counted here; the rest is read when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._latencies = Latencies()
        self.registry.register(self._latencies)
        self.request = self._latencies.observe
        self._group_commands = Histogram(
            "stele_commit_group_commands",
            "Commands of one Raft entry.",
            buckets=_COMMANDS_BUCKETS,
            registry=self.registry,
        )
        self._group_bytes = Counter(
            "stele_commit_bytes", "Bytes of commands proposed.", registry=self.registry
        )
        lines = Counter(
            "stele_bulk_lines", "Lines of bulk loads answered.", ("result",), registry=self.registry
        )
        self.bulk_accepted = lines.labels("accepted")
        self.bulk_refused = lines.labels("refused")
        self.membership_changes = Counter(
            "stele_raft_membership_changes",
            "Memberships that this node has come to use since it started.",
            registry=self.registry,
        )
        self.requests_in_flight = Gauge(
            "stele_http_requests_in_flight", "Requests being handled.", registry=self.registry
        )

    def group(self, commands: int, size_bytes: int) -> None:
        self._group_commands.observe(commands)
        self._group_bytes.inc(size_bytes)

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)


class Measurement(NamedTuple):
    """A gauge and its values now, one a set of label values."""

    name: str
    help_text: str
    labels: tuple[str, ...]
    values: Sequence[tuple[tuple[str, ...], float]]


class Readings(Collector):
    """Gauges that are read when somebody asks, and cost nothing otherwise."""

    def __init__(self, read: Callable[[], Iterable[Measurement]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, help_text, labels, values in self._read():
            family = GaugeMetricFamily(name, help_text, labels=labels)
            for value_labels, value in values:
                family.add_metric(value_labels, value)
            yield family


def node_readings(services: Services) -> list[Measurement]:
    """What the parts of a node have to say about themselves."""
    replica, committer, scrubbing = services.replica, services.committer, services.scrubbing
    status = replica.status()
    role = status.role.name.lower()
    return [
        _single("stele_commit_pending_commands", "Commands waiting for a group.", committer.pending_commands),
        _single(
            "stele_commit_entries_in_flight", "Entries proposed, not applied.", committer.entries_in_flight
        ),
        _single("stele_asyncio_tasks", "Tasks of the event loop.", len(asyncio.all_tasks())),
        _single("stele_scrub_blocks", "Blocks found sound by the scrub since the start.", scrubbing.blocks),
        _single("stele_scrub_rounds", "Rounds of the scrub over all blocks.", scrubbing.rounds),
        _single("stele_disk_free_bytes", "Free space for data.", services.disk_watch.free_size_bytes),
        _single(
            "stele_store_tables_unmerged",
            "Tables that wait to be merged.",
            services.store.engine.level_zero_files,
        ),
        _single("stele_raft_term", "Raft term.", status.term),
        _single("stele_raft_commit_index", "Newest committed entry.", status.commit_index),
        _single("stele_raft_applied_index", "Newest applied entry.", status.applied_index),
        _single("stele_raft_first_index", "Oldest entry of the log.", status.first_index),
        _single("stele_raft_last_index", "Newest entry of the log.", status.last_index),
        Measurement(
            "stele_raft_role",
            "1 for the role this node has.",
            ("role",),
            [((each.name.lower(),), float(each.name.lower() == role)) for each in Role],
        ),
        *membership_readings(status),
        *_ledger_readings(services),
    ]


def _ledger_readings(services: Services) -> list[Measurement]:
    """What there is to say of each ledger, and of its checkpoints."""
    store, cosigning = services.store, services.signing.cosigning
    return [
        Measurement(
            "stele_ledger_blocks",
            "Blocks of a ledger's journal.",
            ("ledger",),
            [((ledger.name,), float(ledger.size)) for ledger in store.ledgers()],
        ),
        Measurement(
            "stele_checkpoint_contradictions",
            "Valid cosignatures over another root than this node's: must be 0.",
            ("ledger",),
            [
                ((ledger.name,), float(cosigning.contradictions.count(ledger.id)))
                for ledger in store.ledgers()
            ],
        ),
        Measurement(
            "stele_checkpoint_cosignatures",
            "Cosignatures of a ledger's newest checkpoint that this node has.",
            ("ledger",),
            [((ledger.name,), float(cosigning.gathered(ledger))) for ledger in store.ledgers()],
        ),
        _single(
            "stele_notices_dropped", "Notices of other nodes that were not taken.", cosigning.notices_dropped
        ),
        Measurement(
            "stele_ledger_unsealed_blocks",
            "Blocks of a ledger's journal after its newest seal.",
            ("ledger",),
            [
                ((ledger.name,), float(ledger.size - (0 if sealed is None else sealed.size)))
                for ledger, sealed in ((each, store.sealed(each.name)) for each in store.ledgers())
            ],
        ),
    ]


def membership_readings(status: ReplicaStatus) -> list[Measurement]:
    """Who belongs to the cluster, and how far each is, as this node sees it."""
    others = [member for member in status.members if member.id != status.node_id]
    own = [member.voter for member in status.members if member.id == status.node_id]
    voters = sum(member.voter for member in status.members)
    return [
        Measurement(
            "stele_raft_members",
            "Members of the cluster: voters, and learners, which get the log and do not count.",
            ("kind",),
            [(("voter",), float(voters)), (("learner",), float(len(status.members) - voters))],
        ),
        _single("stele_raft_is_voter", "1 if this node has a vote.", any(own)),
        _single("stele_raft_is_member", "1 if this node is in the membership it knows.", bool(own)),
        _single("stele_raft_membership_index", "Entry that holds the membership.", status.membership_index),
        _single(
            "stele_raft_membership_pending",
            "1 while a change of the membership is not committed.",
            status.change_pending,
        ),
        Measurement(
            "stele_raft_member_connected",
            "1 if this node is connected to the member.",
            ("peer",),
            [((member.id,), float(member.connected)) for member in others],
        ),
        Measurement(
            "stele_raft_member_snapshotting",
            "1 while a snapshot is on its way to the member; the leader knows.",
            ("peer",),
            [((member.id,), float(member.snapshotting)) for member in others],
        ),
        _lags(
            "stele_raft_follower_lag_entries", "Entries a voter is behind; the leader knows.", True, status
        ),
        _lags(
            "stele_raft_learner_lag_entries", "Entries a learner is behind; the leader knows.", False, status
        ),
    ]


def _lags(name: str, help_text: str, voters: bool, status: ReplicaStatus) -> Measurement:
    lags = [
        ((member.id,), float(max(0, status.last_index - member.match_index)))
        for member in status.members
        if member.match_index is not None and member.voter == voters and member.id != status.node_id
    ]
    return Measurement(name, help_text, ("peer",), lags)


def _single(name: str, help_text: str, value: float) -> Measurement:
    return Measurement(name, help_text, (), [((), float(value))])
