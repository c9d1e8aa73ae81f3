from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.driver import Driver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A store with ledger "sample" and the tables "cars" and "people"."""
    made = Driver(tmp_path / "store")
    made.create("cars", "people")
    yield made
    made.store.close()
