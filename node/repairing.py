"""`steled repair`: puts a damaged database aside, so that the node gets another one from its peers.

The node then comes back as a lost disk does, which is noticed (docs/adr/0007-membership-and-incarnations.md):
it draws a new incarnation, its vote counts again once it has caught up, and until then it founds nothing and
stands for nothing, even if every other node were repaired, too (docs/adr/0015-repair.md).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from consensus.errors import LogCorrupt
from consensus.log import DurableLog
from storage import directory, fsck
from storage.engine import RaftRows


class NothingDamaged(Exception):
    """The database is sound, as far as can be seen; the node should not lose it."""


def fault_of_log(rows: RaftRows) -> str | None:
    """What is wrong with a Raft log; opening it reads every record."""
    try:
        DurableLog(rows)
    except LogCorrupt as error:
        return str(error)
    return None


def repair(data_dir: Path, *, force: bool, progress: Callable[[str, int, int], None]) -> tuple[Path, str]:
    """Puts the database aside; returns where it is now, and the first damage that was found in it.

    With `force` also one in which nothing is found. Raises NothingDamaged, NotAStore, StoreInUse, OSError.
    """
    findings = fsck.check(data_dir, progress, fault_of_log).findings
    if not findings and not force:
        raise NothingDamaged(f"{data_dir}: nothing is damaged; --force puts the database aside even so")
    lock = directory.DirectoryLock(data_dir)
    try:
        # To the second: a name that an operator can read. Another repair within it fails, and harms nothing.
        aside = directory.set_aside(data_dir, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    finally:
        lock.release()
    return aside, f"{findings[0].where}: {findings[0].what}" if findings else "nothing that is found"
