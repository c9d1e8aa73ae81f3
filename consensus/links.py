"""The two ends of a connection between members, as asyncio protocols.

On TLS, whom the other end's certificate names is compared with the membership before anything else, and
with the sender of its Hello: a member speaks for itself only.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

from consensus import limits
from consensus.config import ReplicaConfig
from consensus.errors import IdentityRefused, MalformedMessage, VersionsDoNotMeet
from consensus.framing import FrameReader, frame
from consensus.messages import (
    PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN,
    Greeting,
    Hello,
    Message,
    Welcome,
    common_version,
    decode_greeting,
    decode_message,
    encode,
)
from consensus.tls import certified_uri, member_uri


class InboundOwner(Protocol):
    """What the listening side does with its connections."""

    def accepts(self, peer_id: str) -> bool:
        """Whether this is one of the others of the cluster, as far as it is known now."""
        ...

    def greeted(self, link: Inbound, hello: Hello) -> None:
        """The stranger turned out to be one of them."""
        ...

    def deliver(self, sender_id: str, message: Message) -> None:
        """Raises MalformedMessage."""
        ...

    def refuse(self, sender_id: str | None, error: Exception) -> None:
        """The connection was closed because of what came over it."""
        ...

    def inbound_lost(self, link: Inbound, sender_id: str | None) -> None: ...


def _watch_for_silence(transport: asyncio.BaseTransport) -> None:
    """Lets the kernel close a connection whose other end is gone without a word.

    Otherwise TCP repeats for a quarter of an hour, ever more rarely, and a healed partition stays broken.
    """
    link_socket = transport.get_extra_info("socket")
    link_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = limits.LINK_SILENCE_MS_MAX // 1000
    for option, value in (
        ("TCP_USER_TIMEOUT", limits.LINK_SILENCE_MS_MAX),
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", seconds),
    ):
        if hasattr(socket, option):  # Each system has its own choice of these.
            link_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Inbound(asyncio.Protocol):
    """The receiving end: a stranger until a good Hello, then one member's messages."""

    def __init__(self, owner: InboundOwner, config: ReplicaConfig, *, secured: bool) -> None:
        self._owner = owner
        self._config = config
        self._secured = secured
        self._reader = FrameReader(limits.GREETING_SIZE_BYTES_MAX)
        self._certified_uri: str | None = None
        self._sender_id: str | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _watch_for_silence(transport)
        self._deadline = asyncio.get_running_loop().call_later(limits.GREETING_TIMEOUT_S, self.abort)
        if self._secured:
            try:
                self._certified_uri = self._certified_member(transport)
            except IdentityRefused as error:
                self._refuse(error)

    def _certified_member(self, transport: asyncio.BaseTransport) -> str:
        """Raises IdentityRefused when the certificate is not that of another member."""
        uri = certified_uri(transport)
        peer_id = uri.removeprefix(member_uri(self._config.cluster, ""))
        if uri != member_uri(self._config.cluster, peer_id) or not self._owner.accepts(peer_id):
            raise IdentityRefused(f"{uri} is no other member of this cluster")
        return uri

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                if self._transport is None or self._transport.is_closing():
                    return
                if self._sender_id is None:
                    self._greet(body)
                else:
                    self._owner.deliver(self._sender_id, decode_message(body))
        except (MalformedMessage, IdentityRefused) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._owner.refuse(self._sender_id, error)
        self.abort()

    def _greet(self, body: bytes) -> None:
        """Who speaks, and does he mean us? Raises MalformedMessage or IdentityRefused when not."""
        hello = decode_greeting(body)
        if not isinstance(hello, Hello):
            raise MalformedMessage("it does not begin with Hello")
        version = common_version(hello)
        if (hello.cluster, hello.target) != (self._config.cluster, self._config.node_id):
            raise MalformedMessage("it looks for another cluster or another node")
        if not self._owner.accepts(hello.sender):
            raise MalformedMessage(f"{hello.sender!r} is no other member of this cluster")
        if self._secured and self._certified_uri != member_uri(hello.cluster, hello.sender):
            raise IdentityRefused(f"it calls itself {hello.sender}, and shows {self._certified_uri}")
        self._sender_id = hello.sender
        self._reader.size_bytes_max = limits.FRAME_SIZE_BYTES_MAX
        self._stop_deadline()
        self._owner.greeted(self, hello)
        if self._transport is not None:
            self._transport.write(frame(encode(Welcome(self._config.node_id, version))))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        self._transport = None
        self._owner.inbound_lost(self, self._sender_id)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Outbound(asyncio.Protocol):
    """The sending end. `welcomed` gets the version that the peer's Welcome names; `closed` is set when the
    connection is gone. What a peer does that a member does not, fails `welcomed`."""

    def __init__(self, config: ReplicaConfig, peer_id: str, incarnation: bytes, *, secured: bool) -> None:
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[int] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._hello = Hello(
            PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX, config.cluster, config.node_id, peer_id, incarnation
        )
        self._peer_uri = member_uri(config.cluster, peer_id) if secured else None
        self._reader = FrameReader(limits.GREETING_SIZE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _watch_for_silence(transport)
        try:
            if self._peer_uri is not None and certified_uri(transport) != self._peer_uri:
                raise IdentityRefused(f"{certified_uri(transport)} answers where {self._peer_uri} should")
        except IdentityRefused as error:
            self._fail(error)
        else:
            self._transport.write(frame(encode(self._hello)))

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                self._take_welcome(decode_greeting(body))
        except MalformedMessage as error:
            self._fail(error)

    def _take_welcome(self, welcome: Greeting) -> None:
        """Raises MalformedMessage."""
        if not isinstance(welcome, Welcome) or welcome.sender != self._hello.target or self.welcomed.done():
            raise MalformedMessage("it does not answer as a member does")
        if not self._hello.version_min <= welcome.version <= self._hello.version_max:
            raise VersionsDoNotMeet(
                f"it chose version {welcome.version} of the protocol, which was not offered"
            )
        self.welcomed.set_result(welcome.version)

    def _fail(self, error: Exception) -> None:
        if not self.welcomed.done():
            self.welcomed.set_exception(error)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.welcomed.done():
            # In TLS 1.3 it is only here that a client learns what the server thinks of its certificate.
            self.welcomed.set_exception(exc or ConnectionError("closed before it was welcomed"))
        if not self.welcomed.cancelled():
            self.welcomed.exception()  # Whoever dialled may have given up already.
        if not self.closed.done():
            self.closed.set_result(None)

    def room_for(self, size_bytes: int) -> bool:
        """Whether the send buffer, which TCP empties at its own pace, can take so much more."""
        if self._transport is None or self._transport.is_closing():
            return False
        waiting = self._transport.get_write_buffer_size()
        return waiting + size_bytes <= limits.SEND_BUFFER_SIZE_BYTES_MAX

    def write(self, frames: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.writelines(frames)

    def close(self) -> None:
        """Once everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
