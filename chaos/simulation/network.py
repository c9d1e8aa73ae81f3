"""Links that lose, delay, reorder and repeat messages, and that can be cut, each direction by itself.

Messages cross as the bytes the real transport would send. They are not looked into, so that a new kind of
message needs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable

from chaos.simulation.faults import Weather
from chaos.simulation.scheduler import Scheduler
from consensus.messages import Message, decode_message, encode

_DELAY_S_MIN = 0.0002
_LATE_FACTOR = 50


class Network:
    """All links between the nodes; `deliver(source, target, life, message)` is where messages come out.

    `life` counts the disks that `source` has lost: a message belongs to a connection, and a connection to
    the server whose incarnation was said when it began.
    """

    def __init__(
        self, scheduler: Scheduler, weather: Weather, deliver: Callable[[str, str, int, Message], None]
    ) -> None:
        self.loss = weather.loss
        self.duplication = weather.duplication
        self.delay_s_max = weather.delay_s_max
        self.late_rate = weather.late_rate
        # As TCP does; otherwise as messages of one connection and the next may.
        self.in_order = weather.in_order
        self.blocked: frozenset[tuple[str, str]] = frozenset()
        # Links on which messages wait, as on a stalled connection, and until when.
        self.held_until: dict[tuple[str, str], float] = {}
        self.dropped = 0
        self._arrivals: dict[tuple[str, str], float] = {}
        self._scheduler = scheduler
        self._deliver = deliver

    def send(self, source: str, target: str, life: int, message: Message, after_s: float) -> None:
        """Takes a message that leaves `source` in `after_s` seconds."""
        rng = self._scheduler.rng
        if (source, target) in self.blocked or rng.random() < self.loss:
            self.dropped += 1
            self._scheduler.note(source, f"-> {target} lost", message)
            return
        body = encode(message)
        held_s = max(0.0, self.held_until.get((source, target), 0.0) - self._scheduler.now)
        for _ in range(2 if rng.random() < self.duplication else 1):
            delay_s = rng.uniform(_DELAY_S_MIN, self.delay_s_max)
            if rng.random() < self.late_rate:
                delay_s *= _LATE_FACTOR
            delay_s += max(after_s, held_s)
            if self.in_order:
                delay_s = self._behind_the_last(source, target, delay_s)
            self._scheduler.after(delay_s, lambda: self._arrive(source, target, life, body))

    def _behind_the_last(self, source: str, target: str, delay_s: float) -> float:
        """A message that is late makes those behind it late, too."""
        now = self._scheduler.now
        arrives_at = max(now + delay_s, self._arrivals.get((source, target), 0.0))
        self._arrivals[source, target] = arrives_at
        return arrives_at - now

    def _arrive(self, source: str, target: str, life: int, body: bytes) -> None:
        if (source, target) in self.blocked:
            self.dropped += 1
        else:
            self._deliver(source, target, life, decode_message(body))

    def calm(self) -> None:
        """No more faults."""
        self.loss = self.duplication = self.late_rate = 0.0
        self.held_until = {}
        self.delay_s_max = 0.002
        self.in_order = True
