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
    monkeypatch.setattr("node.limits.SCRUB_ROUND_PAUSE_S", 0.001)


def filled(directory: Path) -> ServedNode:
    served = ServedNode(directory, {"allow_erasure": True, "scrub_rows_per_s": 10_000}).start()
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


def _replaced(find: bytes, replace: bytes) -> Callable[[bytes], bytes | None]:
    return lambda value: value.replace(find, replace) if find in value else None


def _flipped(offset: int) -> Callable[[bytes], bytes | None]:
    def flip(value: bytes) -> bytes:
        changed = bytearray(value)
        changed[offset] ^= 1
        return bytes(changed)

    return flip


def _root_replaced(note: bytes) -> bytes:
    lines = note.split(b"\n")
    lines[2] = lines[2].swapcase()
    return b"\n".join(lines)


def _signature_replaced(note: bytes) -> bytes:
    head, _, line = note.partition(b"\n\n")
    return head + b"\n\n" + line[:-20] + line[-20:].swapcase()


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        (b"D", _replaced(b"original", b"forged!!"), "block 2: the content of version 0 of document 'k0'"),
        (b"B", _replaced(b'"kind":"tx"', b'"kind":"TX"'), "block 1: its header is not the one in the tree"),
        (b"B", _replaced(b'"by":"anonymous"', b'"by":"somebody!"'), "block 0: its information"),
        (b"B", _replaced(b'"key":"k2"', b'"key":"k9"'), "block 4: its revisions"),
        (b"C", _flipped(7), "block 1: the current row of document 'cars' in '$tables@0'"),
        (b"C", _flipped(15), "block 1: the current row of document 'cars' in '$tables@0'"),
        (b"C", _flipped(-1), "block 1: the current row of document 'cars' in '$tables@0'"),
        (b"S", _flipped(0), "is no bucket of the state map"),
        (b"S", _flipped(-1), "is not the one that was sealed"),
        (b"K", _root_replaced, "is not one of this journal"),
        (b"K", _signature_replaced, "a checkpoint that is kept does not hold"),
    ],
)
def test_a_changed_byte_stops_the_node(
    tmp_path: Path, kind: bytes, change: Callable[[bytes], bytes | None], what: str
) -> None:
    served = filled(tmp_path)
    store = served.node.services.store
    engine = store.engine
    ledger = store.ledger("scrubbed")
    assert ledger is not None

    async def tamper() -> None:
        store.machine.write_back()
        prefix = keys.of_ledger(kind, ledger.number)
        rows = ((key, change(value)) for key, value in engine.scan(prefix, keys.end_of(prefix)))
        key, changed = next(row for row in rows if row[1] is not None)
        batch = Batch()
        batch.put(key, changed or b"")
        engine.write(batch)

    served.run(tamper())
    until(lambda: bool(served.fatal))
    (error,) = served.fatal
    assert isinstance(error, InvariantBroken)
    assert what in str(error)
    served.fatal.clear()
    served.stop()
