"""fsck finds every altered byte of a stopped node, by row and by file, and says where it is."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stele.format.note import checkpoint_text
from storage import directory, fsck, keys
from storage.checkpoints import Cosignature
from storage.commands import Condition
from storage.engine import Batch, Engine
from storage.errors import NotAStore, StoreInUse
from tests.storage.driver import LEDGER, Driver, committed, refused

BLOCKS = 300
SEALS = 3


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every kind of row: full tiles, updates, deletes, refusals, checkpoints, first answers."""
    driver = Driver(tmp_path_factory.mktemp("fsck") / "store")
    driver.create("cars", "people")
    for n in range(BLOCKS):
        key = f"k{n % 50}"
        put = driver.put("cars", key, {"n": n, "text": "x" * (n % 90)})
        committed(
            driver.one(driver.transact(put, driver.put("people", f"p{n}", {}), idempotency_key=f"i{n}"))
        )
        if n % 100 == 50:
            committed(driver.one(driver.seal()))
    committed(driver.one(driver.transact(driver.delete("cars", "k1"))))
    absent = Condition("cars", "k2", None, None, "absent")
    refused(
        driver.one(driver.transact(driver.put("cars", "k2", {}), conditions=[absent], idempotency_key="no"))
    )
    journal = driver.store.journal(LEDGER)
    info = driver.store.ledger(LEDGER)
    assert info is not None
    number = info.number
    for size in (1, 256, journal.size):
        note = checkpoint_text("test/sample", size, journal.root(size))
        driver.store.checkpoints.keep([(number, size, note)])
    line = f"\u2014 test/n0 {base64.b64encode(b'keyidsignature').decode()}\n"
    driver.store.checkpoints.keep_cosignatures([Cosignature(number, 256, b"keyi", "test/n0", line)])
    driver.store.close()
    assert fsck.check(driver.path).findings == []
    return driver.path


def rows_of(path: Path, kind: bytes) -> list[tuple[bytes, bytes]]:
    engine = Engine(path / directory.STORE, read_only=True)
    found = list(engine.scan(kind, keys.end_of(kind)))
    engine.close()
    return found


def store_row(path: Path, key: bytes, value: bytes | None) -> None:
    engine = Engine(path / directory.STORE)
    batch = Batch()
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
    engine.write(batch, sync=True)
    engine.close()


# A refusal is no part of the journal: its free text cannot be recomputed, so flips in it are not all found.
KINDS = {"J": "journal end", "B": "block", "T": "tile", "U": "use", "C": "current", "D": "revision"}
KINDS |= {"X": "transaction", "L": "ledger row", "S": "state bucket", "Z": "seal"}


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
def test_one_flipped_bit_in_any_row_is_found(stopped: Path, kind: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chosen = random.Random(seed)
    rows = rows_of(stopped, kind.encode())
    for _ in range(12):
        key, value = chosen.choice(rows)
        bit = chosen.randrange(len(value) * 8)
        if kind == "L" and value[bit // 8] in (0xC2, 0xC3):
            continue  # the deletion protection flag is a setting, not a record
        altered = bytearray(value)
        altered[bit // 8] ^= 1 << bit % 8
        store_row(stopped, key, bytes(altered))
        try:
            report = fsck.check(stopped)
        finally:
            store_row(stopped, key, value)
        assert report.findings, f"seed {seed}: bit {bit} of row {key!r} was not noticed"
        assert repr(LEDGER) in " ".join(f.where for f in report.findings) or kind in "JL", report.findings


@pytest.mark.parametrize("kind", ["J", "B", "T", "U", "C", "D", "X", "S", "Z"])
def test_a_missing_row_is_found(stopped: Path, kind: str) -> None:
    rows = rows_of(stopped, kind.encode())
    key, value = rows[len(rows) // 2]
    store_row(stopped, key, None)
    try:
        report = fsck.check(stopped)
    finally:
        store_row(stopped, key, value)
    assert report.findings


def test_a_row_that_belongs_to_nothing_is_found(stopped: Path) -> None:
    strays = (b"z", b"Mnonsense", keys.block(77, 0), keys.block(1, 10_000), keys.tile(1, 0, 9))
    for key in (*strays, keys.state_bucket(1, 1 << 20), keys.seal(1, 7)):
        store_row(stopped, key, b"x")
        try:
            assert fsck.check(stopped).findings, key
        finally:
            store_row(stopped, key, None)


def test_the_finding_names_the_document_and_the_byte(stopped: Path) -> None:
    key, value = next(row for row in rows_of(stopped, b"T"))
    store_row(stopped, key, value[:1000] + bytes([value[1000] ^ 1]) + value[1001:])
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, key, value)
    assert finding.where == "ledger 'sample' tile 0 of level 0"
    assert finding.what == "byte 1000 of 8192 is wrong"
    stem = keys.revisions_of_table(1, 1) + b"k7\0"
    key, value = next(row for row in rows_of(stopped, b"D") if row[0].startswith(stem))
    store_row(stopped, key, value[:-2] + bytes([value[-2] ^ 4]) + value[-1:])
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, key, value)
    assert "document 'k7' of 'cars@1', version 5" in finding.where


def test_the_wrong_bucket_is_named(stopped: Path) -> None:
    key, value = rows_of(stopped, b"S")[7]
    store_row(stopped, key, value[:40] + bytes([value[40] ^ 1]) + value[41:])
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, key, value)
    assert finding.where == f"ledger 'sample' state bucket {int.from_bytes(key[5:], 'big')}"
    assert finding.what == f"byte 40 of {len(value)} is wrong"


def test_a_bucket_that_lies_elsewhere_or_is_of_another_level_is_named(stopped: Path) -> None:
    key, value = next(row for row in rows_of(stopped, b"S") if row[1][1] < 10)
    number = int.from_bytes(key[5:], "big")
    named = "ledger 'sample' state bucket"
    elsewhere = keys.state_bucket(1, number + 1)
    store_row(stopped, key, None)
    store_row(stopped, elsewhere, value)
    try:
        found = {finding.where: finding.what for finding in fsck.check(stopped).findings}
    finally:
        store_row(stopped, elsewhere, None)
        store_row(stopped, key, value)
    assert found == {
        f"{named} {number}": "the row is missing",
        f"{named} {number + 1}": "the journal makes no such bucket",
    }
    store_row(stopped, key, value[:1] + bytes([value[1] + 1]) + value[2:])
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, key, value)
    assert finding == (f"{named} {number}", f"byte 1 of {len(value)} is wrong")


def test_an_altered_checkpoint_is_found(stopped: Path) -> None:
    key, value = rows_of(stopped, b"K")[1]
    store_row(stopped, key, value.replace(b"256", b"255"))
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, key, value)
    assert "checkpoint of size 256" in finding.where


def test_a_flipped_byte_in_any_table_file_is_found(stopped: Path) -> None:
    """Below the rows: RocksDB's block checksums name the file and the offset."""
    seed = random.SystemRandom().randrange(1 << 32)
    chosen = random.Random(seed)
    # Behind the rows of a file lie RocksDB's filter and properties, which a scan does not read; in the
    # larger files the first half is rows.
    files = [file for file in sorted(stopped.rglob("*.sst")) if file.stat().st_size > 8_192]
    assert files
    for _ in range(10):
        file = chosen.choice(files)
        data = file.read_bytes()
        at = chosen.randrange(len(data) // 2)
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
        try:
            report = fsck.check(stopped)
        finally:
            file.write_bytes(data)
        assert report.findings, f"seed {seed}: byte {at} of {file.name} was not noticed"


HOLDER = """
import sys
from pathlib import Path
from storage.store import Store
store = Store.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_running_node_is_not_checked(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StoreInUse):
            fsck.check(tmp_path)
        holder.stdin.close()
        holder.wait(timeout=30)
    assert fsck.check(tmp_path).findings == []


def test_a_directory_without_a_store_is_not_called_clean(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        fsck.check(tmp_path)


def test_progress_ends_complete(stopped: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    report = fsck.check(stopped, lambda what, done, total: seen.__setitem__(what, (done, total)))
    assert report.blocks == BLOCKS + 4 + SEALS
    assert seen["sample: blocks"] == (report.blocks, report.blocks)
    assert seen["sample: revisions"] == (report.revisions, report.revisions)


def test_an_altered_cosignature_is_found(stopped: Path) -> None:
    ((key, value),) = rows_of(stopped, b"Q")
    for altered in (value.replace(b"test/n0", b"test/n1"), b"\xff"):
        store_row(stopped, key, altered)
        try:
            (finding,) = fsck.check(stopped).findings
        finally:
            store_row(stopped, key, value)
        assert "cosignature of size 256" in finding.where
    stray = key[:5] + (255).to_bytes(8, "big") + key[13:]
    store_row(stopped, stray, value)
    try:
        (finding,) = fsck.check(stopped).findings
    finally:
        store_row(stopped, stray, None)
    assert "no checkpoint of that size" in finding.what
