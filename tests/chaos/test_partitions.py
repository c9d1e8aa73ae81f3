"""Partitions have the shapes that their names say."""

from __future__ import annotations

from chaos.faults.partitions import between, bridge, isolated, one_way, ring
from chaos.lab.network import CLIENTS, Link

NODES = ["n0", "n1", "n2", "n3", "n4"]


def hears(links: list[Link], receiver: str) -> set[str]:
    """Whom a node still hears."""
    return {sender for sender in NODES if sender != receiver and (sender, receiver) not in links}


def test_an_isolated_node_hears_nobody_and_nobody_hears_it() -> None:
    links = isolated("n1", NODES, clients=False)
    assert hears(links, "n1") == set()
    assert all("n1" not in hears(links, other) for other in NODES)
    assert hears(links, "n0") == {"n2", "n3", "n4"}
    assert (CLIENTS, "n1") not in links
    assert {(CLIENTS, "n1"), ("n1", CLIENTS)} <= set(isolated("n1", NODES, clients=True))


def test_one_way_cuts_what_a_node_says_and_not_what_it_hears() -> None:
    links = one_way("n1", NODES)
    assert hears(links, "n1") == {"n0", "n2", "n3", "n4"}
    assert all("n1" not in hears(links, other) for other in NODES if other != "n1")


def test_a_split_leaves_each_side_whole() -> None:
    links = between(["n0", "n1"], ["n2", "n3", "n4"])
    assert hears(links, "n0") == {"n1"}
    assert hears(links, "n2") == {"n3", "n4"}


def test_only_the_middle_of_a_bridge_hears_both_sides() -> None:
    links = bridge("n0", ["n1", "n2"], ["n3", "n4"])
    assert hears(links, "n0") == {"n1", "n2", "n3", "n4"}
    assert hears(links, "n1") == {"n0", "n2"}
    assert hears(links, "n3") == {"n0", "n4"}


def test_in_a_ring_everybody_hears_two_neighbours() -> None:
    links = ring(NODES)
    assert [hears(links, node) for node in NODES] == [
        {"n1", "n4"},
        {"n0", "n2"},
        {"n1", "n3"},
        {"n2", "n4"},
        {"n0", "n3"},
    ]
