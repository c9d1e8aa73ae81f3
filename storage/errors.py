"""Typed errors of the storage package."""

from __future__ import annotations


class StorageError(Exception):
    """Base of everything storage raises on purpose."""


class StorageFailed(StorageError):
    """RocksDB or the disk below it failed. The node stops: it never writes again as if nothing was.

    `errno` is the error of the operating system, and `file` the name of the file, where they are known.
    """

    def __init__(self, message: str, *, errno: int | None = None, file: str | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.file = file


class StoreDamaged(StorageFailed):
    """What is on the disk is not what was written there. The other nodes have it, too: `steled repair`."""


class FilesRemain(StorageError):
    """RocksDB has not removed files that it does not need any more; something else may still use them."""


class StoreInUse(StorageError):
    """Another process has the data directory open."""


class NotAStore(StorageError):
    """The directory is not the data directory of a node."""


class FormatUnknown(StorageError):
    """The data directory was written by a version of Stele that this one does not understand."""


class InvariantBroken(StorageError):
    """The stored state contradicts itself or the journal. The node stops before it answers wrongly."""


class JournalOutvoted(InvariantBroken):
    """Other replicas have another journal, and no majority has this one's. Nothing in it need look wrong."""


class SnapshotInvalid(StorageError):
    """The bytes of a snapshot are not what their digest or their form says. They are dropped."""


class DiskSpaceShort(StorageError):
    """A snapshot is not made or kept, or a node not started, so that the disk does not become full."""


class LedgerUnknown(StorageError):
    def __init__(self, ledger: str) -> None:
        super().__init__(f"there is no ledger {ledger!r}")
        self.ledger = ledger


class TableUnknown(StorageError):
    def __init__(self, table: str) -> None:
        super().__init__(f"there is no table {table!r}")
        self.table = table


class TableDropped(StorageError):
    def __init__(self, table: str) -> None:
        super().__init__(f"table {table!r} was dropped; its history stays readable")
        self.table = table


class NotSealed(StorageError):
    """No seal covers the block yet, so nothing about it can be proven to a stranger."""

    def __init__(self, ledger: str, seq: int) -> None:
        super().__init__(f"no seal of ledger {ledger!r} covers block {seq} yet")
        self.ledger = ledger
        self.seq = seq


class BlockUnknown(StorageError):
    def __init__(self, seq: int, size: int) -> None:
        super().__init__(f"there is no block {seq}: the journal has blocks 0 to {size - 1}")
        self.seq = seq
        self.size = size
