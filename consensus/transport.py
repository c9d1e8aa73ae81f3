"""Messages over TCP: one connection for each ordered pair of members; whoever wants to send dials.

A connection begins with Hello, answered with Welcome; from then on messages go one way. Nothing is queued
for a peer that is not connected, and what does not fit a peer's send buffer is dropped: Raft repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus import limits
from consensus.config import Peer, ReplicaConfig
from consensus.framing import frame
from consensus.links import Inbound, Outbound
from consensus.messages import Message, encode

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """Who is told what the wire brings."""

    def message_received(self, peer_id: str, message: Message) -> None:
        """Raises MalformedMessage; the connection is then closed."""
        ...

    def link_up(self, peer_id: str) -> None: ...
    def link_down(self, peer_id: str) -> None: ...

    def peer_lost(self, peer_id: str) -> None:
        """The connection on which this member sent is closed, and no other has taken its place."""
        ...


@dataclass(frozen=True, slots=True)
class Security:
    """TLS for both directions; None is plain TCP. Certificates and their checks come with mutual TLS."""

    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None


@dataclass(slots=True)
class Counters:
    """What the transport had to give up since it started."""

    messages_dropped: int = 0
    connections_refused: int = 0


class TcpTransport:
    """The wire of one member, on one event loop. Owns all its connections, in and out."""

    def __init__(
        self,
        config: ReplicaConfig,
        receiver: Receiver,
        *,
        rng: random.Random,
        security: Security,
        listen_socket: socket.socket | None,
    ) -> None:
        self.counters = Counters()
        self._config = config
        self._receiver = receiver
        self._rng = rng
        self._security = security
        self._listen_socket = listen_socket
        self._server: asyncio.Server | None = None
        self._dialling: list[asyncio.Task[None]] = []
        self._outbound: dict[str, Outbound] = {}
        self._strangers: set[Inbound] = set()
        self._inbound: dict[str, Inbound] = {}
        self._reported: set[str | None] = set()
        self._stopped = False

    async def start(self) -> None:
        """Listens, and begins to dial every other member. Raises OSError when it cannot listen."""
        loop = asyncio.get_running_loop()
        own = self._config.self_peer
        if self._listen_socket is not None:
            self._server = await loop.create_server(
                lambda: Inbound(self, self._config), sock=self._listen_socket, ssl=self._security.server
            )
        else:
            port = own.port if self._config.listen_port is None else self._config.listen_port
            self._server = await loop.create_server(
                lambda: Inbound(self, self._config),
                host=self._config.listen_host or own.host,
                port=port,
                ssl=self._security.server,
            )
        self._dialling = [loop.create_task(self._keep_dialling(peer)) for peer in self._config.other_peers]

    def abort(self) -> None:
        """Cuts every connection now; nothing more is sent or taken."""
        self._stopped = True
        for task in self._dialling:
            task.cancel()
        if self._server is not None:
            self._server.close()
        for link in [*self._strangers, *self._inbound.values()]:
            link.abort()
        for peer_link in self._outbound.values():
            peer_link.abort()

    async def stop(self) -> None:
        """As `abort`, and returns once everything is closed."""
        self.abort()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def send(self, peer_id: str, messages: Sequence[Message]) -> None:
        """Writes to a peer that is connected; what does not fit its buffer is dropped, newest first."""
        link = self._outbound.get(peer_id)
        frames: list[bytes] = []
        size_bytes = 0
        for message in messages:
            each = frame(encode(message))
            if link is None or not link.room_for(size_bytes + len(each)):
                break
            frames.append(each)
            size_bytes += len(each)
        self.counters.messages_dropped += len(messages) - len(frames)
        if link is not None and frames:
            link.write(frames)

    # The dialling side.

    async def _keep_dialling(self, peer: Peer) -> None:
        delay_s = limits.RECONNECT_DELAY_S_MIN
        while not self._stopped:
            if await self._connect(peer):
                delay_s = limits.RECONNECT_DELAY_S_MIN
            # Half to all of the delay, so that members that lost each other do not meet in step.
            await asyncio.sleep(delay_s * self._rng.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, limits.RECONNECT_DELAY_S_MAX)

    async def _connect(self, peer: Peer) -> bool:
        """Dials once and stays until the connection is gone; False when it never was one."""
        link = Outbound(self._config, peer.id)
        try:
            async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, peer.host, peer.port, ssl=self._security.client
                )
                await link.welcomed
        except (OSError, UnicodeError) as error:  # Refused, timed out, closed; or no such host name.
            logger.debug("cannot reach %s: %s", peer.id, error)
            return False
        else:
            self._outbound[peer.id] = link
            self._receiver.link_up(peer.id)
            await link.closed
            return True
        finally:
            link.abort()
            if self._outbound.pop(peer.id, None) is not None and not self._stopped:
                self._receiver.link_down(peer.id)

    # The listening side.

    def admit(self, link: Inbound) -> bool:
        if self._stopped or len(self._strangers) + len(self._inbound) >= limits.INBOUND_CONNECTIONS_MAX:
            return False
        self._strangers.add(link)
        return True

    def greeted(self, link: Inbound, sender_id: str) -> None:
        """A member has one connection to here; an older one is a leftover that TCP still holds."""
        self._strangers.discard(link)
        older = self._inbound.get(sender_id)
        self._inbound[sender_id] = link
        if older is not None:
            older.abort()

    def deliver(self, sender_id: str, message: Message) -> None:
        if not self._stopped:
            self._receiver.message_received(sender_id, message)

    def refuse(self, sender_id: str | None, reason: str) -> None:
        self.counters.connections_refused += 1
        level = logging.DEBUG if sender_id in self._reported else logging.WARNING
        self._reported.add(sender_id)
        logger.log(level, "closed a connection from %s: %s", sender_id or "a stranger", reason)

    def inbound_lost(self, link: Inbound, sender_id: str | None) -> None:
        self._strangers.discard(link)
        if sender_id is not None and self._inbound.get(sender_id) is link:
            del self._inbound[sender_id]
            if not self._stopped:
                self._receiver.peer_lost(sender_id)
