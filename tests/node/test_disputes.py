"""One replica has another journal: it is the one that stops, whether it leads or follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node import limits
from storage.commands import Operation, Transact
from storage.errors import JournalOutvoted
from tests.node.cosigners import LEDGER, NODES, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.record_keys()
    yield made
    made.close()


def go_astray(world: World, node_id: str) -> None:
    """A block of this node's journal is another one than everybody else's."""
    for only, payload in (((node_id,), b'{"wrong":true}'), (others(node_id), b"{}")):
        operation = Operation("put", "cars", "car", payload, bytes(32))
        world.apply(Transact(LEDGER, bytes(16), 1, "tester", (operation,)), only)


def others(node_id: str) -> tuple[str, ...]:
    return tuple(each for each in NODES if each != node_id)


@pytest.mark.parametrize("wrong", ["n0", "n2"])  # n0 is who proposes the seals of these tests.
def test_the_odd_one_out_stops_and_the_majority_goes_on(world: World, wrong: str) -> None:
    world.write()
    world.turn()
    go_astray(world, wrong)
    world.write()  # A seal over the other journals,
    world.write()  # and one that names it: whoever has another root there notices.
    disputing = {each for each in NODES if world[each].cosigning.disputes.alarms()}
    assert disputing == (set(others(wrong)) if wrong == "n0" else {wrong})
    with pytest.raises(JournalOutvoted, match="a majority"):
        world.turn()
    world[wrong].cosigning._inbox.clear()
    for each in others(wrong):
        for _ in range(3):
            world[each].cosigning.round()
        assert world[each].cosigning.disputes.alarms() == []


def test_before_the_next_seal_the_wrong_leader_has_stopped(world: World) -> None:
    world.write()
    world.turn()
    go_astray(world, "n0")
    world.write()
    with pytest.raises(JournalOutvoted, match="demo/n1, demo/n2"):
        world.turn()
    assert all(not world[each].cosigning.disputes.alarms() for each in NODES)
    # Started again without a repair, it stops again: what the others signed is on its disk.
    node = world["n0"]
    node.close()
    node.open()
    with pytest.raises(JournalOutvoted):
        node.cosigning.round()


def test_when_nobody_says_who_is_right_nobody_goes_on_for_long(world: World) -> None:
    world.write()
    world.turn()
    go_astray(world, "n0")
    world.write()
    world.write()
    follower = world["n1"].cosigning
    follower.round()
    assert len(follower.disputes.alarms()) == 1
    world.pass_time(limits.DISPUTE_TIMEOUT_S + 1)
    with pytest.raises(JournalOutvoted, match="no majority says which is right"):
        follower.round()


def test_one_stolen_key_stops_nobody(world: World) -> None:
    """What a single replica has cosigned is an alarm, and no more (docs/adr/0010-cosigned-checkpoints.md)."""
    world.write()
    world.turn()
    go_astray(world, "n2")
    world.write()
    for node_id in ("n0", "n2"):
        world[node_id].cosigning.round()
    for _, body in world["n2"].outbox:
        world["n0"].cosigning.take("n2", body)
    world["n0"].cosigning.round()
    assert len(world["n0"].cosigning.contradictions.alarms()) == 1
    assert world["n0"].cosigning.disputes.alarms() == []
