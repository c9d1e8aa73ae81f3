"""The background scrub: a node finds by itself what was changed behind its back, and stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import keys
from storage.engine import Batch
from storage.errors import InvariantBroken
from tests.node.served import ServedNode

FOUND_WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.SCRUB_PAUSE_S", 0.001)
    monkeypatch.setattr("node.limits.SCRUB_ROUND_PAUSE_S", 0.001)


def filled(directory: Path) -> ServedNode:
    served = ServedNode(directory, {"allow_erasure": True}).start()
    served.ledger("scrubbed")
    for n in range(5):
        path = f"/v1/ledgers/scrubbed/tables/cars/documents/k{n}"
        assert served.ask("PUT", path, {"text": "original"}).status == 201
    body = {"table": "cars", "key": "k4", "versions": "all", "reason": "asked for"}
    assert served.ask("POST", "/v1/ledgers/scrubbed/erasures", body).status == 202
    assert served.ask("GET", "/v1/ledgers/scrubbed/checkpoint").status == 200
    return served


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FOUND_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_sound_node_is_scrubbed_round_after_round(tmp_path: Path) -> None:
    """Erased revisions and seals are sound, too."""
    served = filled(tmp_path)
    scrubbing = served.node.services.scrubbing
    until(lambda: scrubbing.rounds >= 3)
    assert served.fatal == []
    text = served.ask("GET", "/metrics").body.decode()
    assert "stele_scrub_rounds" in text
    assert "stele_scrub_blocks" in text
    served.stop()


@pytest.mark.parametrize(
    ("kind", "find", "replace", "what"),
    [
        (b"D", b"original", b"forged!!", "block 2: the content of version 0 of document 'k0'"),
        (b"B", b'"kind":"tx"', b'"kind":"TX"', "block 1: its header is not the one in the tree"),
        (b"B", b'"by":"anonymous"', b'"by":"somebody!"', "block 0: its information"),
        (b"B", b'"key":"k2"', b'"key":"k9"', "block 4: its revisions"),
    ],
)
def test_a_changed_byte_stops_the_node(
    tmp_path: Path, kind: bytes, find: bytes, replace: bytes, what: str
) -> None:
    served = filled(tmp_path)
    engine = served.node.services.store.engine

    async def change() -> None:
        key, value = next(row for row in engine.scan(kind, keys.end_of(kind)) if find in row[1])
        batch = Batch()
        batch.put(key, value.replace(find, replace))
        engine.write(batch)

    served.run(change())
    until(lambda: bool(served.fatal))
    (error,) = served.fatal
    assert isinstance(error, InvariantBroken)
    assert what in str(error)
    served.fatal.clear()
    served.stop()
