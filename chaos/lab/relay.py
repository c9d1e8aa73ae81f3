"""Carries Ethernet frames between hosts of the laboratory by hand: late, twice, out of order, too few.

Linux can do so by itself (tc netem, NFQUEUE), where its kernel has these parts; many have not. A packet
socket needs none: it sees each frame on its way into the bridge, where nftables drops it, and puts it, when
its time has come, straight into the wire of the one it is for.

`python -m chaos.lab.relay` is a process of its own, so that frames do not wait for the laboratory's other
work. It takes one JSON line of rules at a time, each replacing those before, answers each with what it did
under the last ones, and ends with its standard input.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import select
import socket
import sys
import time
from collections.abc import Sequence

import msgspec

from chaos.lab.network import Shape, Told

_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
"""From linux/if_packet.h; not in Python's socket module."""
_VNET_HEADER_BYTES = 10
"""struct virtio_net_hdr: what the kernel has left for the card to do, such as checksums and segments."""
_MAC_BYTES = 6
_FRAME_BYTES_MAX = 1 << 17
_ETH_P_ALL = 3
_HELD_MAX = 20_000
_HELD_S_MAX = 2.0
"""Frames that wait, in number and in time: what comes beyond is dropped, as a full router does."""
_AT_ONCE_MAX = 64
_ORDERS_BYTES_MAX = 1 << 16


class Rule(msgspec.Struct, frozen=True):
    """`source` and `target` are interfaces on the bridge, `mac` is of the host behind `target`."""

    source: str
    target: str
    mac: str
    shape: Shape


class _Wire:
    """One directed link under a rule."""

    def __init__(self, rule: Rule) -> None:
        self.target = rule.target
        self.mac = bytes.fromhex(rule.mac.replace(":", ""))
        self.shape = rule.shape
        self.free_s = 0.0
        self.last_s = 0.0

    def due_s(self, now_s: float, size_bytes: int) -> float:
        """When a frame that comes now is through."""
        shape = self.shape
        if shape.bytes_per_s is not None:
            self.free_s = max(self.free_s, now_s) + size_bytes / shape.bytes_per_s
        if random.random() * 100 < shape.hurry_percent:
            return now_s
        sent_s = now_s if shape.bytes_per_s is None else self.free_s
        return sent_s + shape.delay_s + random.random() * shape.jitter_s


class Relay:
    """Frames wait in one heap for their time; `Told` counts what becomes of them."""

    def __init__(self) -> None:
        self._from: dict[str, socket.socket] = {}
        self._to: dict[str, socket.socket] = {}
        self._wires: dict[str, list[_Wire]] = {}
        self._held: list[tuple[float, int, str, bytes]] = []
        self._numbers = itertools.count()
        self._carried = self._duplicated = self._overtaken = self._lost = 0
        self._late_s = 0.0

    def rule(self, rules: Sequence[Rule]) -> Told:
        """Frames that wait go on to wait."""
        told = Told(
            carried=self._carried,
            late_s=self._late_s,
            duplicated=self._duplicated,
            overtaken=self._overtaken,
            lost=self._lost,
        )
        self._carried = self._duplicated = self._overtaken = self._lost = 0
        self._late_s = 0.0
        self._wires = {}
        for each in rules:
            self._wires.setdefault(each.source, []).append(_Wire(each))
            if each.source not in self._from:
                self._from[each.source] = _opened(each.source, _ETH_P_ALL)
            if each.target not in self._to:
                self._to[each.target] = _opened(each.target, 0)  # To send only.
        for source in set(self._from) - set(self._wires):
            self._from.pop(source).close()
        return told

    def run(self, orders: int) -> None:
        """Until the orders, lines of an open file, end."""
        rest = b""
        while True:
            sources = {opened: name for name, opened in self._from.items()}
            wait_s = None if not self._held else max(self._held[0][0] - time.monotonic(), 0.0)
            watched: list[int | socket.socket] = [orders, *sources]
            ready, _, _ = select.select(watched, [], [], wait_s)
            if orders in ready:
                piece = os.read(orders, _ORDERS_BYTES_MAX)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._obey(line)
            for source, name in sources.items():
                if source in ready:
                    self._take(source, self._wires.get(name, []))
            self._deliver()

    def _obey(self, line: bytes) -> None:
        told = self.rule(msgspec.json.decode(line, type=list[Rule]))
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()

    def _take(self, source: socket.socket, wires: Sequence[_Wire]) -> None:
        for _ in range(_AT_ONCE_MAX):
            try:
                frame = source.recv(_FRAME_BYTES_MAX)
            except OSError:
                return  # There is none, or the interface is gone.
            to = frame[_VNET_HEADER_BYTES : _VNET_HEADER_BYTES + _MAC_BYTES]
            for wire in wires:
                if wire.mac == to or to[0] & 1:  # To one host, or to all.
                    self._hold(wire, frame)

    def _hold(self, wire: _Wire, frame: bytes) -> None:
        now_s = time.monotonic()
        copies = 1 + (random.random() * 100 < wire.shape.duplicate_percent)
        self._duplicated += copies - 1
        for _ in range(copies):
            due_s = wire.due_s(now_s, len(frame))
            full = len(self._held) >= _HELD_MAX or due_s - now_s > _HELD_S_MAX
            if full or random.random() * 100 < wire.shape.lose_percent:
                self._lost += 1
                continue
            self._overtaken += due_s < wire.last_s
            wire.last_s = max(wire.last_s, due_s)
            self._late_s += due_s - now_s
            heapq.heappush(self._held, (due_s, next(self._numbers), wire.target, frame))

    def _deliver(self) -> None:
        while self._held and self._held[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(self._held)
            try:
                self._to[target].send(frame)
            except OSError:
                self._lost += 1  # The host is gone, or its queue is full.
            else:
                self._carried += 1


def _opened(interface: str, protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.bind((interface, protocol))
    opened.setblocking(False)
    return opened


if __name__ == "__main__":
    Relay().run(sys.stdin.fileno())
