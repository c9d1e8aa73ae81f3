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
