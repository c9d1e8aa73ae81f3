"""From RocksDB's messages to typed failures: did the disk fail, or is what lies on it damaged, and where?

rocksdict raises plain exceptions whose only content is RocksDB's status as text, which names a kind
("IO error", "Corruption"), often a file, and the operating system's message (include/rocksdb/status.h).
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from storage.errors import StorageFailed, StoreDamaged

_KNOWN = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOENT,
    errno.ESTALE,
)
_ERRNO_OF = {os.strerror(number): number for number in _KNOWN}
_FILE = re.compile(r"\b(\d{6,}\.(?:sst|log)|MANIFEST-\d+|CURRENT|OPTIONS-\d+)\b")
_DROPPED = re.compile(r"(\d{6,}\.log): dropping \d+ bytes; Corruption")
_INFO_LOG_SIZE_BYTES_MAX = 1 << 20


def failure(what: str, error: Exception) -> StorageFailed:
    """The typed form of what RocksDB or the operating system reported while doing `what`."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else _errno_in(text)
    found = _FILE.search(text)
    kind = StoreDamaged if "Corruption" in text else StorageFailed
    return kind(f"{what}: {text}", errno=number, file=found[1] if found else None)


def opening_failure(path: Path, error: Exception) -> StorageFailed:
    """As `failure`, for a database in `path` that does not open."""
    found = failure(f"cannot open {path}", error)
    # A file that the others name is gone: what is left is not what was written.
    damaged = isinstance(found, StoreDamaged) or (found.errno == errno.ENOENT and found.file is not None)
    if not damaged:
        return found
    # Of the write-ahead log RocksDB says in its own log, begun anew each time, which file it was.
    file = found.file or _dropped_log(path / "LOG")
    where = f" ({file})" if file is not None and file not in str(found) else ""
    return StoreDamaged(f"{found}{where}", errno=found.errno, file=file)


def _errno_in(text: str) -> int | None:
    """Of the last such message in it: what is before may be the name of a file."""
    places = {text.rfind(message): number for message, number in _ERRNO_OF.items()}
    last = max(places)
    return places[last] if last >= 0 else None


def _dropped_log(info_log: Path) -> str | None:
    try:
        with info_log.open(encoding="utf-8", errors="replace") as file:
            found = _DROPPED.search(file.read(_INFO_LOG_SIZE_BYTES_MAX))
    except OSError:
        return None
    return found[1] if found else None
