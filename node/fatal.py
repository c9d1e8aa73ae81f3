"""How a node ends that can no longer trust its disk or itself: with which status, and what is to be done.

What is on a disk after a failed write or sync is unknown, so no node goes on after one, or tries it again
(https://wiki.postgresql.org/wiki/Fsync_Errors). A new process reads what is really there.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

from consensus.errors import LogCorrupt
from node import limits
from storage.errors import DiskSpaceShort, InvariantBroken, JournalOutvoted, StorageFailed, StoreDamaged

_log = structlog.get_logger("node")

_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


class Ending(NamedTuple):
    """What ended a node: the error at the bottom, the status to exit with, and the cure, if there is one."""

    error: BaseException
    exit_code: int
    cure: str | None = None

    @property
    def details(self) -> dict[str, str]:
        """For the log: what kind of failure it is, and of what, as far as that is known."""
        found = {"failure": type(self.error).__name__, "reason": str(self.error)}
        if isinstance(self.error, StorageFailed):
            if self.error.errno is not None:
                found["errno"] = errno.errorcode[self.error.errno]
            if self.error.file is not None:
                found["file"] = self.error.file
        return found if self.cure is None else {**found, "cure": self.cure}


def ending_of(error: BaseException, data_dir: Path) -> Ending:
    """What an error means for the node in `data_dir`: the innermost cause that has a meaning decides."""
    for cause in reversed(list(_causes(error))):
        if isinstance(cause, StoreDamaged | InvariantBroken | LogCorrupt):
            # In a journal that others outvote, nothing need be damaged that could be found.
            options = " --force" if isinstance(cause, JournalOutvoted) else ""
            return Ending(
                cause,
                limits.FATAL_EXIT_CODE,
                f"the other nodes have the data, too: `steled repair {data_dir}{options}` puts this database "
                "aside, and the node gets another one from them when it is started again",
            )
        if isinstance(cause, StorageFailed | DiskSpaceShort) or _of_a_disk(cause):
            return Ending(
                cause,
                limits.DISK_EXIT_CODE,
                f"see that the disk of {data_dir} works and has room, and start the node again",
            )
    return Ending(error, limits.FATAL_EXIT_CODE)


def _of_a_disk(error: BaseException) -> bool:
    """Files that the node writes without RocksDB: keys, and snapshots that come."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRNOS


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def exit_at_once(error: BaseException, data_dir: Path) -> NoReturn:
    """End the process without answering anybody: what it believes can no longer be trusted."""
    ending = ending_of(error, data_dir)
    _log.critical("the node stops", exc_info=error, exit_status=ending.exit_code, **ending.details)
    sys.stderr.flush()
    os._exit(ending.exit_code)
