from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.node.served import ServedNode

_numbers = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    """A node for all tests of a module."""
    served = ServedNode(tmp_path_factory.mktemp("node")).start()
    yield served
    served.stop()


@pytest.fixture
def ledger(node: ServedNode) -> str:
    """A fresh ledger with a table "cars"."""
    return node.ledger(f"ledger{next(_numbers)}")


@pytest.fixture
def unwritten(node: ServedNode, ledger: str) -> Iterator[str]:
    """A ledger that must be as long after the test as before."""
    node.ask("PUT", f"/v1/ledgers/{ledger}/tables/cars/documents/there", {"n": 1})
    size = node.size(ledger)
    yield ledger
    assert node.size(ledger) == size
