"""Messages over TCP: one connection for each ordered pair of members; whoever wants to send dials.

A connection begins with Hello, answered with Welcome; from then on messages go one way. Nothing is queued
for a peer that is not connected, and what does not fit a peer's send buffer is dropped: Raft repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from consensus import limits
from consensus.config import Address, ReplicaConfig
from consensus.errors import IdentityRefused, MalformedMessage
from consensus.framing import frame
from consensus.links import Inbound, Outbound
from consensus.messages import Hello, Message, Notice, encode
from consensus.tls import MutualTls

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """Who is told what the wire brings."""

    def message_received(self, peer_id: str, message: Message | Notice) -> None:
        """Calls `cut` when the message does not fit."""
        ...

    def peer_greeted(self, peer_id: str, incarnation: bytes) -> None:
        """What comes from this member from now on comes from the server with that disk (membership.py)."""
        ...

    def link_up(self, peer_id: str) -> None: ...
    def link_down(self, peer_id: str) -> None: ...

    def peer_lost(self, peer_id: str) -> None:
        """The connection on which this member sent is closed, and no other has taken its place."""
        ...


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
        tls: MutualTls | None,
        listen_socket: socket.socket | None,
    ) -> None:
        self.counters = Counters()
        self._config = config
        self._receiver = receiver
        self._rng = rng
        self._tls = tls
        self._listen_socket = listen_socket
        self._accepting: list[asyncio.Task[None]] = []
        self._incarnation = b""
        self._addresses: dict[str, Address] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._heard_of: dict[str, asyncio.Event] = {}
        self._outbound: dict[str, Outbound] = {}
        # Each with its handshake, in the order of their coming.
        self._strangers: dict[Inbound, asyncio.Task[None]] = {}
        self._inbound: dict[str, Inbound] = {}
        self._reported: set[tuple[str | None, str]] = set()
        self._stopped = False

    async def start(self, incarnation: bytes, addresses: Mapping[str, Address]) -> None:
        """Listens, and begins to dial the others. Raises OSError when it cannot listen."""
        loop = asyncio.get_running_loop()
        self._incarnation = incarnation
        for listener in await self._listen():
            accepting = loop.create_task(self._accept(listener))
            accepting.add_done_callback(partial(_close, listener))
            self._accepting.append(accepting)
        self.reach(addresses)

    def reach(self, addresses: Mapping[str, Address]) -> None:
        """From now on these are the others: dialled there, and let in; the links with all others are cut."""
        if self._stopped:
            return
        former, self._addresses = self._addresses, dict(addresses)
        for peer_id in former:
            if self._addresses.get(peer_id) != former[peer_id]:
                self._dialling.pop(peer_id).cancel()
                del self._heard_of[peer_id]
        for peer_id in former.keys() - self._addresses.keys():
            link = self._inbound.get(peer_id)
            if link is not None:
                link.abort()
        loop = asyncio.get_running_loop()
        for peer_id, address in self._addresses.items():
            if peer_id not in self._dialling:
                self._heard_of[peer_id] = asyncio.Event()
                self._dialling[peer_id] = loop.create_task(self._keep_dialling(peer_id, address))

    def accepts(self, peer_id: str) -> bool:
        return peer_id in self._addresses

    def abort(self) -> None:
        """Cuts every connection now; nothing more is sent or taken."""
        self._stopped = True
        for task in [*self._dialling.values(), *self._accepting, *self._strangers.values()]:
            task.cancel()
        for link in [*self._strangers, *self._inbound.values()]:
            link.abort()
        for peer_link in self._outbound.values():
            peer_link.abort()

    async def stop(self) -> None:
        """As `abort`, and returns once everything is closed."""
        self.abort()
        tasks = [*self._dialling.values(), *self._accepting, *self._strangers.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

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

    def send_notice(self, peer_id: str | None, notice: Notice) -> int:
        """Writes to one peer, or to all of them; returns how many it was written to.

        A peer that is not connected, or has much to read already, is passed over.
        """
        written = 0
        framed = frame(encode(notice))
        links = self._outbound if peer_id is None else [peer_id]
        for each in links:
            link = self._outbound.get(each)
            if link is not None and link.room_for(len(framed), limits.NOTICE_SEND_BUFFER_SIZE_BYTES_MAX):
                link.write([framed])
                written += 1
        return written

    # The dialling side.

    async def _keep_dialling(self, peer_id: str, address: Address) -> None:
        delay_s, heard_of = limits.RECONNECT_DELAY_S_MIN, self._heard_of[peer_id]
        while not self._stopped:
            if await self._connect(peer_id, address):
                delay_s = limits.RECONNECT_DELAY_S_MIN
                heard_of.clear()
            # Half to all of the delay, so that members that lost each other do not meet in step. A peer that
            # comes of its own accord is up again, or knows this member at last: it is dialled at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s * self._rng.uniform(0.5, 1.0)):
                    await heard_of.wait()
            heard_of.clear()
            delay_s = min(2 * delay_s, limits.RECONNECT_DELAY_S_MAX)

    async def _connect(self, peer_id: str, address: Address) -> bool:
        """Dials once and stays until the connection is gone; False when it never was one."""
        link = Outbound(self._config, peer_id, self._incarnation, secured=self._tls is not None)
        try:
            async with asyncio.timeout(limits.CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    address.host,
                    address.port,
                    ssl=None if self._tls is None else self._tls.client_context(),
                    # Not named: the identity that counts is in the certificate, whatever the host's name.
                    server_hostname=None if self._tls is None else "",
                )
                await link.welcomed
        except (ssl.SSLError, MalformedMessage, IdentityRefused) as error:
            self._report(peer_id, error, f"no link to {peer_id} at {address.host}:{address.port}")
            return False
        except (OSError, UnicodeError) as error:  # Refused, timed out, closed; or no such host name.
            logger.debug("cannot reach %s: %s", peer_id, error)
            return False
        else:
            self._outbound[peer_id] = link
            self._receiver.link_up(peer_id)
            await link.closed
            return True
        finally:
            if self.accepts(peer_id):
                link.abort()
            else:
                link.close()  # The last that a member hears is that it is one no more.
            if self._outbound.get(peer_id) is link:
                del self._outbound[peer_id]
                if not self._stopped:
                    self._receiver.link_down(peer_id)

    # The listening side.

    async def _listen(self) -> list[socket.socket]:
        """Sockets on every address of the host. Raises OSError."""
        if self._listen_socket is not None:
            self._listen_socket.listen(limits.STRANGERS_MAX)
            self._listen_socket.setblocking(False)
            return [self._listen_socket]
        own = self._config.self_peer
        port = own.port if self._config.listen_port is None else self._config.listen_port
        found = await asyncio.get_running_loop().getaddrinfo(
            self._config.listen_host or own.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listeners: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((each[0], each[4]) for each in found):
                listeners.append(
                    socket.create_server(address[:2], family=family, backlog=limits.STRANGERS_MAX)
                )
                listeners[-1].setblocking(False)
        except OSError:
            for listener in listeners:
                listener.close()
            raise
        return listeners

    async def _accept(self, listener: socket.socket) -> None:
        """Takes connections itself: asyncio's servers tell nobody of TLS handshakes that are not finished, so
        that neither could their number be bounded nor a failure counted."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # Too many open files, or gone before it was taken.
                self._report(None, error, "cannot take a connection")
                await asyncio.sleep(limits.ACCEPT_PAUSE_S)
            else:
                self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        if len(self._strangers) >= limits.STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest).cancel()
            oldest.abort()
        link = Inbound(self, self._config, secured=self._tls is not None)
        handshake = asyncio.get_running_loop().create_task(self._shake_hands(link, accepted))
        self._strangers[link] = handshake
        handshake.add_done_callback(lambda _: self._handshake_ended(link, accepted))

    async def _shake_hands(self, link: Inbound, accepted: socket.socket) -> None:
        """Connects the link, or counts and reports why not."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                accepted,
                ssl=None if self._tls is None else self._tls.server_context(),
                ssl_handshake_timeout=None if self._tls is None else limits.GREETING_TIMEOUT_S,
            )
        except OSError as error:  # ssl.SSLError is one.
            self.refuse(None, error)
            # Its frames hold the connection's buffers in a cycle, and a node collects cycles rarely.
            error.__traceback__ = None

    def _handshake_ended(self, link: Inbound, accepted: socket.socket) -> None:
        """Also of a task that was cancelled before its first step, and so has closed nothing."""
        if not link.connected:
            self._strangers.pop(link, None)
            accepted.close()

    def greeted(self, link: Inbound, hello: Hello) -> None:
        """A member has one connection to here; an older one is a leftover that TCP still holds."""
        self._strangers.pop(link, None)
        older = self._inbound.get(hello.sender)
        self._inbound[hello.sender] = link
        if older is not None:
            older.abort()
        if hello.sender in self._heard_of:
            self._heard_of[hello.sender].set()
        if not self._stopped:
            self._receiver.peer_greeted(hello.sender, hello.incarnation)

    def deliver(self, sender_id: str, message: Message | Notice) -> None:
        if not self._stopped:
            self._receiver.message_received(sender_id, message)

    def cut(self, sender_id: str, error: MalformedMessage) -> None:
        """Closes the connection on which a member sent what does not fit."""
        link = self._inbound.get(sender_id)
        if link is not None:
            self.refuse(sender_id, error)
            link.abort()

    def refuse(self, sender_id: str | None, error: Exception) -> None:
        self.counters.connections_refused += 1
        self._report(sender_id, error, f"closed a connection from {sender_id or 'a stranger'}")

    def _report(self, peer_id: str | None, error: Exception, what: str) -> None:
        """Warns once a peer and reason; strangers, who can take any address, count as one peer."""
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
        occurrence = (peer_id, f"{type(error).__name__} {reason}")
        known = occurrence in self._reported or len(self._reported) >= limits.REFUSALS_REPORTED_MAX
        if not known:
            self._reported.add(occurrence)
        logger.log(logging.DEBUG if known else logging.WARNING, "%s: %s", what, error)

    def inbound_lost(self, link: Inbound, sender_id: str | None) -> None:
        self._strangers.pop(link, None)
        if sender_id is not None and self._inbound.get(sender_id) is link:
            del self._inbound[sender_id]
            if not self._stopped:
                self._receiver.peer_lost(sender_id)


def _close(listener: socket.socket, _: asyncio.Task[None]) -> None:
    """Only when nobody waits for it any more: its number may be another file's a moment later."""
    listener.close()
