"""What ended a node, by the exit status and in the log: a supervisor and an operator act on it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from consensus.errors import EntryNotApplied, LogCorrupt
from node import limits
from node.fatal import ending_of
from storage.errors import DiskSpaceShort, InvariantBroken, StorageFailed, StoreDamaged
from tests.node.served import ServedNode

DATA = Path("/data/n1")


def caused_by(cause: Exception) -> Exception:
    """As the replica reports what its state machine raised."""
    error = EntryNotApplied(f"entry 7 could not be applied: {cause}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        StorageFailed("no room", errno=errno.ENOSPC, file="000012.log"),
        caused_by(StorageFailed("no room", errno=errno.ENOSPC, file="000012.log")),
        DiskSpaceShort("no room"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_failed_may_be_tried_again_by_another_process(error: Exception) -> None:
    ending = ending_of(error, DATA)
    assert ending.exit_code == limits.DISK_EXIT_CODE
    assert "repair" not in str(ending.cure)


@pytest.mark.parametrize(
    "error",
    [
        StoreDamaged("bad block", file="000012.sst"),
        caused_by(StoreDamaged("bad block", file="000012.sst")),
        InvariantBroken("block 7"),
        LogCorrupt("entry 9 is missing", 9),
    ],
)
def test_damage_is_to_be_repaired_first(error: Exception) -> None:
    ending = ending_of(error, DATA)
    assert ending.exit_code == limits.FATAL_EXIT_CODE
    assert f"steled repair {DATA}" in str(ending.cure)


def test_a_defect_has_no_cure() -> None:
    ending = ending_of(caused_by(ZeroDivisionError("a defect")), DATA)
    assert (ending.exit_code, ending.cure) == (limits.FATAL_EXIT_CODE, None)


def test_the_log_says_of_which_kind_and_file() -> None:
    error = caused_by(StorageFailed("no room", errno=errno.ENOSPC, file="000012.log"))
    details = ending_of(error, DATA).details
    assert details["failure"] == "StorageFailed"
    assert (details["errno"], details["file"]) == ("ENOSPC", "000012.log")


def test_a_disk_that_fills_up_raises_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISK_FREE_ALARM_SIZE_BYTES", 0)
    served = ServedNode(tmp_path).start()
    assert "alarms" not in served.ask("GET", "/readyz").json
    assert b"stele_disk_free_bytes" in served.ask("GET", "/metrics").body
    monkeypatch.setattr(limits, "DISK_FREE_ALARM_SIZE_BYTES", 1 << 60)
    answer = served.ask("GET", "/readyz")
    assert answer.status == 200
    assert f"free on the disk of {tmp_path / 'data'}" in answer.json["alarms"][0]
    served.stop()
