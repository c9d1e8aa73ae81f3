"""One node: its parts joined, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web

import node
from consensus.config import CatchUp, ReadLease, ReplicaConfig
from consensus.config import Peer as ReplicaPeer
from consensus.errors import ConsensusError
from consensus.replica import Replica
from consensus.snapshot import Snapshot
from consensus.tls import CredentialFiles, MutualTls
from node import limits
from node.applied import AnnouncingMachine
from node.committer import Committer
from node.compacting import Compacting
from node.config import Config
from node.disk_watch import DiskWatch
from node.erasing import Erasing
from node.fatal import exit_at_once
from node.http.answers import encode
from node.http.forward import Forwarder
from node.http.openapi import build_document
from node.http.routes import ROUTES
from node.http.server import Dispatcher, HttpServer
from node.http.services import Services
from node.membership import MembershipWatch
from node.reads import Reads
from node.scrubbing import Scrubbing
from node.sealing import Sealing
from node.signing import Signing
from node.snapshots import Sink, Source
from node.stamps import Stamps
from node.telemetry import Metrics, Readings, configure_logging, node_readings
from node.witnessing import Witnessing, read_witnesses
from storage import directory
from storage.received import ReceivedSnapshot
from storage.snapshot import StoreSnapshots
from storage.store import Store

_log = structlog.get_logger("node")


class StartFailed(Exception):
    """The node cannot start, for a reason outside of it."""


class Node:
    """A running node. `on_fatal`, by default the end of the process, must not return to a node that goes on
    (tests record the error)."""

    def __init__(self, config: Config, on_fatal: Callable[[BaseException], None] | None = None) -> None:
        self.config = config
        self._on_fatal = on_fatal or partial(exit_at_once, data_dir=config.data_dir)
        self._runner: web.ServerRunner | None = None
        self._installing: asyncio.Task[None] | None = None
        self._snapshots: tuple[Source, Sink]
        self.services: Services

    async def start(self) -> None:
        """Open the store, join the cluster, serve.

        Raises StartFailed, SigningKeyInvalid, CredentialsInvalid and StorageError.
        """
        config = self.config
        tls = _mutual_tls(config)
        try:
            store = Store.open(config.data_dir)
        except OSError as error:
            raise StartFailed(f"data_dir: {config.data_dir} cannot be used: {error}") from error
        try:
            self.services = self._compose(store, tls)
        except BaseException:
            store.close()
            raise
        try:
            await _listening("raft", config.raft_host, config.raft_port, self.services.replica.start())
        except BaseException:
            await self.services.forwarder.close()
            store.close()
            raise
        services, replica = self.services, self.services.replica
        services.metrics.registry.register(Readings(lambda: node_readings(services)))
        replica.on_leadership(services.sealing.leadership)
        services.erasing.start()
        services.scrubbing.start()
        services.witnessing.start()
        services.disk_watch.start()
        services.compacting.start()
        replica.on_leadership(lambda leads: _log.info("leadership", leads=leads))
        self.services.membership.start()
        services.signing.start()
        try:
            await self._serve_http()
        except BaseException:
            await self._stop_parts()
            raise
        _log.info("serving", http=f"{config.http_host}:{config.http_port}", data_dir=str(config.data_dir))

    def _compose(self, store: Store, tls: MutualTls | None) -> Services:
        """The parts of this node. Raises SigningKeyInvalid."""
        config = self.config
        machine = AnnouncingMachine(store.machine)
        replica = self._make_replica(store, machine, tls)
        metrics, stamps = Metrics(), Stamps()
        committer = self._make_committer(replica, metrics)
        reads = Reads(replica, store, machine)
        witnesses = {} if config.witnesses_file is None else read_witnesses(config.witnesses_file)
        signing = Signing(config, store, replica, machine, committer, reads, stamps, self._on_fatal)
        return Services(
            config=config,
            store=store,
            replica=replica,
            membership=MembershipWatch(replica, metrics.membership_changes.inc),
            committer=committer,
            reads=reads,
            signing=signing,
            sealing=Sealing(
                store,
                machine,
                committer,
                stamps,
                leads=lambda: replica.is_leader,
                interval_s=config.seal_interval_s,
            ),
            forwarder=Forwarder(config.node_id, partial(_http_url, replica, config)),
            stamps=stamps,
            scrubbing=Scrubbing(
                store, signing.checkpoints, self._on_fatal, rows_per_s=config.scrub_rows_per_s
            ),
            witnessing=Witnessing(
                store,
                signing.checkpoints,
                witnesses,
                config.witness_interval_s,
                on_kept=signing.wake,
                on_fatal=self._on_fatal,
            ),
            erasing=Erasing(store, replica, committer, stamps, self._on_fatal),
            disk_watch=DiskWatch(config.data_dir),
            compacting=Compacting(store.engine),
            metrics=metrics,
            openapi_document=encode(build_document(ROUTES, version=node.__version__)),
        )

    def _make_committer(self, replica: Replica, metrics: Metrics) -> Committer:
        return Committer(
            replica,
            entries_in_flight_max=self.config.entries_in_flight_max,
            pending_commands_max=self.config.pending_commands_max,
            timeout_s=self.config.commit_timeout_s,
            on_group=metrics.group,
        )

    def _make_replica(self, store: Store, machine: AnnouncingMachine, tls: MutualTls | None) -> Replica:
        data_dir = self.config.data_dir
        source = Source(StoreSnapshots(store.engine, data_dir))
        sink = Sink(ReceivedSnapshot(data_dir), self._snapshot_received, self._on_fatal)
        self._snapshots = source, sink
        return Replica(
            _replica_config(self.config),
            store.raft_rows,
            machine,
            self._on_fatal,
            snapshot_source=source,
            snapshot_sink=sink,
            tls=tls,
        )

    async def _serve_http(self) -> None:
        dispatcher = Dispatcher(self.services, ROUTES, self._on_fatal)
        runner = web.ServerRunner(
            HttpServer(dispatcher), shutdown_timeout=limits.SHUTDOWN_REQUESTS_TIMEOUT_S, handle_signals=False
        )
        await runner.setup()
        self._runner = runner
        site = web.TCPSite(
            runner, self.config.http_host, self.config.http_port, backlog=limits.LISTEN_BACKLOG
        )
        await _listening("http", self.config.http_host, self.config.http_port, site.start())

    async def stop(self) -> None:
        """Give away the leadership, then finish what was begun: requests first, with a deadline, then their
        commits, then the rest."""
        if self._installing is not None:
            await self._installing
        self.services.draining = True
        self.services.sealing.stop()
        _log.info("stopping")
        await self._hand_over()
        await self._stop_parts()
        _log.info("stopped")

    async def _hand_over(self) -> None:
        """A leader that is told to stop chooses its successor, so that nobody has to notice its death."""
        replica = self.services.replica
        if not replica.is_leader or len(replica.membership.voters) == 1:
            return
        try:
            _log.info("leadership handed over", to=await replica.transfer_leadership())
        except ConsensusError as error:
            _log.info("leadership not handed over", reason=str(error))

    async def _stop_parts(self) -> None:
        await self._stop_running()
        await self._close_store()

    async def _stop_running(self) -> None:
        """Nothing is answered, and nothing is written any more."""
        services = self.services
        services.sealing.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        await services.signing.stop()
        await services.scrubbing.stop()
        await services.witnessing.stop()
        await services.disk_watch.stop()
        await services.compacting.stop()
        await services.erasing.stop()
        await services.committer.close(limits.SHUTDOWN_COMMITS_TIMEOUT_S)
        await services.forwarder.close()
        await services.replica.stop()

    async def _close_store(self) -> None:
        for each in self._snapshots:
            await each.close()
        self.services.store.close()

    # A snapshot from the leader, for a node that is too far behind.

    def _snapshot_received(self, snapshot: Snapshot) -> None:
        if self._installing is None and not self.services.draining:
            self._installing = asyncio.get_running_loop().create_task(self._install(snapshot))

    async def _install(self, snapshot: Snapshot) -> None:
        """Starts this node again, in this process, with what the leader had applied. Whatever goes wrong ends
        it: the next start finds the former database whole, or the new one (storage/directory.py)."""
        services, (_, sink) = self.services, self._snapshots
        try:
            if not services.replica.needs(snapshot):
                sink.forget()
                return
            _log.info("installing a snapshot", index=snapshot.index)
            services.draining = True
            await self._stop_running()
            if services.replica.needs(snapshot):
                sink.install(snapshot, services.store)
            await self._close_store()
            gc.collect()  # RocksDB lets go of a database only once nothing refers to it any more.
            await self.start()
        except BaseException as error:
            self._on_fatal(error)
        finally:
            self._installing = None


def _replica_config(config: Config) -> ReplicaConfig:
    peers = [
        ReplicaPeer(id=peer.id, host=peer.raft_host, port=peer.raft_port, zone=peer.zone, http=peer.http_url)
        for peer in config.peers
    ]
    if all(peer.id != config.node_id for peer in peers):
        # It joins: where the others will find it, the cluster is told when it is added.
        peers.append(ReplicaPeer(config.node_id, config.raft_host, config.raft_port, config.zone))
    return ReplicaConfig(
        cluster=config.cluster,
        node_id=config.node_id,
        peers=tuple(peers),
        # Whoever lost what he knew waits for those who have it, and founds no cluster.
        join=config.join or directory.was_set_aside(config.data_dir),
        listen_host=config.raft_host,
        listen_port=config.raft_port,
        catch_up=CatchUp(config.catch_up_rate_mib_s << 20, config.log_retained_mib << 20),
        read_lease=ReadLease(config.clock_drift_max_ppm) if config.read_lease else None,
    )


def _http_url(replica: Replica, config: Config, node_id: str) -> str | None:
    """Where a node's HTTP API is. A node that was just added has the log's membership last of all."""
    member = replica.membership.get(node_id)
    if member is not None:
        return member.http
    return next((peer.http_url for peer in config.peers if peer.id == node_id), None)


def _mutual_tls(config: Config) -> MutualTls | None:
    """None for plain TCP. Raises CredentialsInvalid."""
    if not (config.raft_ca_file and config.raft_certificate_file and config.raft_key_file):
        return None
    files = CredentialFiles(config.raft_ca_file, config.raft_certificate_file, config.raft_key_file)
    tls = MutualTls(files, cluster=config.cluster, node_id=config.node_id)
    if tls.not_after_s - time.time() < limits.CERTIFICATE_EXPIRES_SOON_S:
        expires = datetime.fromtimestamp(tls.not_after_s, UTC).isoformat()
        _log.warning("the certificate expires soon", file=str(files.certificate), expires=expires)
    return tls


async def _listening(what: str, host: str, port: int, starting: Awaitable[None]) -> None:
    """Wait for a server to start. Raises StartFailed."""
    try:
        await starting
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartFailed(f"{what}_port: port {port} is in use by another process") from error
        raise StartFailed(f"{what}_host: cannot listen on {host}, port {port}: {error}") from error


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logging(config.log_level, config.node_id)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = Node(config)
    await serving.start()
    # What exists now stays, so the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(limits.GARBAGE_THRESHOLD_OBJECTS)
    await stop.wait()
    await serving.stop()
