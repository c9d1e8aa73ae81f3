from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from stele.client import BlockingClient
from tests.cluster.cluster import Cluster

_numbers = itertools.count()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real node that is its own cluster, for all tests of a module."""
    # Seals come only when somebody asks for a proof, so that tests can count blocks.
    running = Cluster(tmp_path_factory.mktemp("single"), 1, "--seal-interval-s", "3600")
    running.start()
    try:
        yield running
        running.stop()
    finally:
        running.kill_everything()


@pytest.fixture
def ledger(single: Cluster) -> str:
    """The name of a fresh ledger with tables "cars" and "default"."""
    name = f"ledger{next(_numbers)}"
    with BlockingClient(url_of(single)) as client:
        client.create_ledger(name)
        for table in ("cars", "default"):
            client.ledger(name).create_table(table)
    return name


def url_of(cluster: Cluster) -> str:
    return ",".join(node.http for node in cluster.nodes())
