"""The simulated network: what order messages come in."""

from __future__ import annotations

import random
from dataclasses import replace

from chaos.simulation.faults import Weather
from chaos.simulation.network import Network
from chaos.simulation.scheduler import Scheduler
from consensus.messages import Message, TimeoutNow

SENT = range(200)


def arrivals(*, in_order: bool) -> list[int]:
    """The order in which messages come that were sent one behind the other, as fast as they come."""
    scheduler = Scheduler(1)
    weather = replace(
        Weather.drawn(random.Random(0)),
        loss=0.0,
        duplication=0.0,
        delay_s_max=0.01,
        late_rate=0.1,
        in_order=in_order,
    )
    came: list[int] = []

    def deliver(source: str, target: str, life: int, message: Message) -> None:
        assert isinstance(message, TimeoutNow)
        came.append(message.term)

    network = Network(scheduler, weather, deliver)
    for number in SENT:
        network.send("a", "b", 0, TimeoutNow(number), 0.0)
        scheduler.advance(0.001)
    scheduler.advance(10.0)
    return came


def test_messages_of_one_connection_keep_their_order() -> None:
    assert arrivals(in_order=True) == list(SENT)


def test_messages_of_several_connections_do_not() -> None:
    came = arrivals(in_order=False)
    assert came != list(SENT)
    assert sorted(came) == list(SENT)
