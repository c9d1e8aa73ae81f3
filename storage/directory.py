"""A node's data directory, and how one database in it takes the place of another.

    store/        the database
    checkpoint/   a copy of it that followers fetch (hard links)
    received/     what has come of another node's copy
    completing/   all of it, being made this node's own
    next/         made this node's own: it takes the place of store/ when the store is opened
    former/       a database that was replaced, being deleted
    damaged-…/    a database that was put aside (`set_aside`), and when; nothing here ever deletes it
    lock          held by the process that uses the directory

Each step from received/ on is one rename, synced before the next. Whenever the power goes, the next start
finds either the former database whole, or next/, which is whole because it was synced before it got that
name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from storage import limits
from storage.errors import DiskSpaceShort, FilesRemain, FormatUnknown, NotAStore, StoreInUse

STORE = "store"
CHECKPOINT = "checkpoint"
RECEIVED = "received"
COMPLETING = "completing"
NEXT = "next"
FORMER = "former"
LOCK = "lock"
ASIDE = "damaged-"

COPIES = (CHECKPOINT, RECEIVED, COMPLETING, NEXT, FORMER)

Step = Callable[[str], None]


def nothing(_step: str) -> None:
    """Called before each step; tests stop the process there."""


def sync_directory(path: Path) -> None:
    """What was created, renamed or deleted in `path` stays so. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Every file in `path` and its list of files are on disk. Raises OSError."""
    for each in path.iterdir():
        descriptor = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(path)


def remove(path: Path) -> None:
    """Deletes a directory with all that is in it, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def free_size_bytes(path: Path) -> int:
    """What a process like this one may still write to the disk of `path`. Raises OSError."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def check_room_to_start(path: Path) -> None:
    """Raises DiskSpaceShort when a node would soon fail for want of space, and OSError."""
    free = free_size_bytes(path)
    if free < limits.START_DISK_FREE_SIZE_BYTES_MIN:
        raise DiskSpaceShort(
            f"{free >> 20} MiB are free in {path}; a node starts with "
            f"{limits.START_DISK_FREE_SIZE_BYTES_MIN >> 20} MiB or more"
        )


def check_room(path: Path, size_bytes: int) -> None:
    """Raises DiskSpaceShort when the disk of `path` would be short of space with `size_bytes` more."""
    free = free_size_bytes(path)
    if free - size_bytes < limits.SNAPSHOT_DISK_FREE_SIZE_BYTES_MIN:
        raise DiskSpaceShort(
            f"{free >> 20} MiB are free in {path}; a snapshot needs {size_bytes >> 20} MiB and "
            f"{limits.SNAPSHOT_DISK_FREE_SIZE_BYTES_MIN >> 20} MiB must stay free"
        )


class DirectoryLock:
    """Keeps other processes out of a data directory, which is made when it is missing, until `release`.

    Raises StoreInUse and OSError.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = (path / LOCK).open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise StoreInUse(f"{path} is in use by another process") from error

    def check_no_copies(self) -> None:
        """Raises FilesRemain while there is another database than the one in use, or a part of one."""
        found = [name for name in COPIES if (self._path / name).exists()]
        if found:
            raise FilesRemain(f"there is a copy of a database in {', '.join(found)}")

    def release(self) -> None:
        self._file.close()


def prepare(path: Path, step: Step = nothing) -> Path:
    """Makes a locked data directory ready for its database to be opened, and returns where that is.

    Finishes an exchange that was begun, and removes what is left over. Raises OSError, and FormatUnknown for
    the directory of a version that kept its database in `path` itself.
    """
    if (path / "CURRENT").exists():
        raise FormatUnknown(
            f"{path} was written by an earlier version; move what is in it into {path / STORE}"
        )
    if (path / NEXT).exists():
        _exchange(path, step)
    for leftover in (FORMER, COMPLETING, CHECKPOINT):
        remove(path / leftover)
    return path / STORE


def set_aside(path: Path, name: str) -> Path:
    """Puts the database of a locked data directory aside, under ASIDE and `name`; returns where it is now.

    What else is in the directory stays, keys above all. Raises NotAStore and OSError.
    """
    if not (path / STORE).is_dir():
        raise NotAStore(f"{path} holds no store")
    aside = path / f"{ASIDE}{name}"
    (path / STORE).rename(aside)
    sync_directory(path)
    return aside


def was_set_aside(path: Path) -> bool:
    """Whether a database was put aside here: whoever begins anew must wait for the others' data."""
    return path.is_dir() and any(path.glob(f"{ASIDE}*"))


def complete(path: Path, step: Step = nothing) -> None:
    """completing/, which is closed and this node's own, becomes next/: from here on it is the one that the
    next start opens. Raises OSError."""
    step("sync")
    sync_tree(path / COMPLETING)
    step("complete")
    (path / COMPLETING).rename(path / NEXT)
    sync_directory(path)


def _exchange(path: Path, step: Step) -> None:
    """next/ becomes store/. Each step may have been done by a process that died after it."""
    if (path / STORE).exists():
        step("put the former away")
        remove(path / FORMER)
        (path / STORE).rename(path / FORMER)
        sync_directory(path)
    step("put the next in its place")
    (path / NEXT).rename(path / STORE)
    sync_directory(path)
    step("delete the former")
    remove(path / FORMER)
