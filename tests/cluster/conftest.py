from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A running demo cluster of three; a test may have stopped it already."""
    made = Cluster(tmp_path)
    made.start()
    try:
        yield made
        made.stop()
    finally:
        made.kill_everything()
