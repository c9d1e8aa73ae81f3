"""Every node's disk is judged, also when several are at once."""

from __future__ import annotations

from pathlib import Path

from chaos.checkers.replicas import check_disks
from storage import directory
from tests.storage.driver import Driver


def test_a_sound_disk_is_clean_and_a_rotten_and_a_missing_one_are_named(tmp_path: Path) -> None:
    for name in ("n0", "n1"):
        driver = Driver(tmp_path / name)
        driver.create("cars")
        driver.one(driver.transact(driver.put("cars", "a", {"n": 1})))
        driver.store.close()
    (manifest,) = (tmp_path / "n1" / directory.STORE).glob("MANIFEST-*")
    checksum, *rest = manifest.read_bytes()
    manifest.write_bytes(bytes([checksum ^ 1, *rest]))
    told: list[str] = []
    found = check_disks({name: tmp_path / name for name in ("n0", "n1", "n2")}, told.append)
    assert {each.what.split(":")[0] for each in found} == {"n1", "n2"}, found
    assert told == ["fsck of n0: clean", "fsck of n1: damaged", "fsck of n2: damaged"]
