"""One node: its parts joined, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NoReturn

import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import node
from consensus.config import Peer as ReplicaPeer
from consensus.config import ReplicaConfig
from consensus.errors import ConsensusError
from consensus.replica import Replica
from consensus.tls import CredentialFiles, MutualTls
from node import limits
from node.applied import AnnouncingMachine
from node.checkpoints import Checkpoints, load_log_key
from node.committer import Committer
from node.config import Config
from node.erasing import Erasing
from node.http.answers import encode
from node.http.forward import Forwarder
from node.http.openapi import build_document
from node.http.routes import ROUTES
from node.http.server import Dispatcher, HttpServer
from node.http.services import Services
from node.reads import Reads
from node.scrubbing import Scrubbing
from node.sealing import Sealing
from node.stamps import Stamps
from node.telemetry import Metrics, Readings, configure_logging, node_readings
from storage.store import Store

_log = structlog.get_logger("node")


class StartFailed(Exception):
    """The node cannot start, for a reason outside of it."""


def exit_at_once(error: BaseException) -> NoReturn:
    """End the process without answering anybody: what it believes can no longer be trusted."""
    _log.critical("the node stops", exc_info=error)
    sys.stderr.flush()
    os._exit(limits.FATAL_EXIT_CODE)


class Node:
    """A running node. `on_fatal` must not return to a node that goes on (tests record the error)."""

    def __init__(self, config: Config, on_fatal: Callable[[BaseException], None] = exit_at_once) -> None:
        self.config = config
        self._on_fatal = on_fatal
        self._runner: web.ServerRunner | None = None
        self.services: Services

    async def start(self) -> None:
        """Open the store, join the cluster, serve.

        Raises StartFailed, LogKeyInvalid, CredentialsInvalid and StorageError.
        """
        config = self.config
        log_key = load_log_key(config.log_key_file)
        tls = _mutual_tls(config)
        store = Store.open(config.data_dir)
        try:
            self.services = self._compose(store, log_key, tls)
            await _listening("raft_port", config.raft_port, self.services.replica.start())
        except BaseException:
            store.close()
            raise
        replica, committer = self.services.replica, self.services.committer
        scrubbing = self.services.scrubbing
        readings = Readings(lambda: node_readings(replica, committer, store, scrubbing))
        self.services.metrics.registry.register(readings)
        replica.on_leadership(self.services.sealing.leadership)
        self.services.erasing.start()
        self.services.scrubbing.start()
        replica.on_leadership(lambda leads: _log.info("leadership", leads=leads))
        try:
            await self._serve_http()
        except BaseException:
            await self._stop_parts()
            raise
        _log.info("serving", http=f"{config.http_host}:{config.http_port}", data_dir=str(config.data_dir))

    def _compose(self, store: Store, log_key: Ed25519PrivateKey, tls: MutualTls | None) -> Services:
        config = self.config
        machine = AnnouncingMachine(store.machine)
        replica = Replica(_replica_config(config), store.raft_rows, machine, self._on_fatal, tls=tls)
        metrics, stamps = Metrics(), Stamps()
        committer = Committer(
            replica,
            entries_in_flight_max=config.entries_in_flight_max,
            pending_commands_max=config.pending_commands_max,
            timeout_s=config.commit_timeout_s,
            on_group=metrics.group,
        )
        return Services(
            config=config,
            store=store,
            replica=replica,
            committer=committer,
            reads=Reads(replica, store, machine),
            checkpoints=Checkpoints(store, config.cluster, log_key),
            sealing=Sealing(
                store,
                machine,
                committer,
                stamps,
                leads=lambda: replica.is_leader,
                interval_s=config.seal_interval_s,
            ),
            forwarder=Forwarder(config.node_id, {peer.id: peer.http_url for peer in config.peers}),
            stamps=stamps,
            scrubbing=Scrubbing(store, self._on_fatal),
            erasing=Erasing(store, replica, committer, stamps, self._on_fatal),
            metrics=metrics,
            openapi_document=encode(build_document(ROUTES, version=node.__version__)),
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
        await _listening("http_port", self.config.http_port, site.start())

    async def stop(self) -> None:
        """Give away the leadership, then finish what was begun: requests first, with a deadline, then their
        commits, then the rest."""
        self.services.draining = True
        self.services.sealing.stop()
        _log.info("stopping")
        await self._hand_over()
        await self._stop_parts()
        _log.info("stopped")

    async def _hand_over(self) -> None:
        """A leader that is told to stop chooses its successor, so that nobody has to notice its death."""
        replica = self.services.replica
        if not replica.is_leader or len(self.config.peers) == 1:
            return
        try:
            _log.info("leadership handed over", to=await replica.transfer_leadership())
        except ConsensusError as error:
            _log.info("leadership not handed over", reason=str(error))

    async def _stop_parts(self) -> None:
        services = self.services
        if self._runner is not None:
            await self._runner.cleanup()
        await services.scrubbing.stop()
        await services.erasing.stop()
        await services.committer.close(limits.SHUTDOWN_COMMITS_TIMEOUT_S)
        await services.forwarder.close()
        await services.replica.stop()
        services.store.close()


def _replica_config(config: Config) -> ReplicaConfig:
    return ReplicaConfig(
        cluster=config.cluster,
        node_id=config.node_id,
        peers=tuple(
            ReplicaPeer(id=peer.id, host=peer.raft_host, port=peer.raft_port, zone=peer.zone)
            for peer in config.peers
        ),
        listen_host=config.raft_host,
        listen_port=config.raft_port,
    )


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


async def _listening(field: str, port: int, starting: Awaitable[None]) -> None:
    try:
        await starting
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartFailed(f"{field}: port {port} is in use by another process") from error
        raise


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
