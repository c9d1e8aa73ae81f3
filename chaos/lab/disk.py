"""Disks that fail on command: a shim between one node and its files, switched by a shared page.

The shim (disk_shim.c) is built with gcc when a laboratory starts; without a compiler there are no such
faults. It sees write, pwrite, writev, fsync and fdatasync, which is what RocksDB calls; not mmap.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

_SOURCE = Path(__file__).with_name("disk_shim.c")
_BUILD_TIMEOUT_S = 60.0
_CONTROL = struct.Struct("=IIQ")
_SYNCED = "user.stele_synced"
"""The extended attribute in which disk_shim.c notes the size that is on disk for certain."""

DiskMode = Literal["none", "full", "write fails", "sync fails", "slow"]
"""In the order of the enumeration in disk_shim.c."""


class ShimFailed(Exception):
    """The shim could not be built; the message is the compiler's."""


def build(folder: Path) -> Path | None:
    """Compiles the shim into `folder`; None when there is no gcc. Raises ShimFailed."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "disk_shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, timeout=_BUILD_TIMEOUT_S, check=False)
    if built.returncode != 0:
        raise ShimFailed(built.stderr.decode(errors="replace"))
    return library


class Disk:
    """The files below `root`, as one process sees them through the shim."""

    def __init__(self, library: Path, control_file: Path, root: Path) -> None:
        self._library = library
        self._control_file = control_file
        self._root = root
        control_file.write_bytes(_CONTROL.pack(0, 0, 0))

    @property
    def environment(self) -> Mapping[str, str]:
        """For the process; `root` must be a path without links."""
        return {
            "LD_PRELOAD": str(self._library),
            "STELE_DISK_CONTROL": str(self._control_file),
            "STELE_DISK_ROOT": str(self._root.resolve()),
        }

    @property
    def remembers(self) -> bool:
        """Whether the file system can keep what the shim notes of each sync; some have no such attributes."""
        try:
            os.setxattr(self._control_file, _SYNCED, b"")
        except OSError:
            return False
        return True

    def set(self, mode: DiskMode, *, delay_s: float = 0.0) -> None:
        """Takes effect with the next call. "slow" delays each write and each sync by `delay_s`."""
        page = _CONTROL.pack(get_args(DiskMode).index(mode), round(delay_s * 1e6), 0)
        with self._control_file.open("r+b") as file:
            file.write(page)  # In place: the process has the file mapped.

    def lose_power(self) -> int:
        """Takes away what was written since each file was last synced; returns how many bytes. The process
        must be dead. RocksDB only ever appends to a file, so its end is what a real power loss takes; torn
        pages and lost renames it does not show."""
        lost = 0
        for path in self._root.rglob("*"):
            if path.is_file():
                size = path.stat().st_size
                synced = min(size, _synced_size_bytes(path))
                if synced < size:
                    os.truncate(path, synced)
                    lost += size - synced
        return lost

    def unsynced(self, names: str) -> list[tuple[Path, int, int]]:
        """Files with bytes behind those that are synced, with both sizes."""
        found: list[tuple[Path, int, int]] = []
        for path in self._root.rglob(names):
            try:
                size, synced = path.stat().st_size, _synced_size_bytes(path)
            except FileNotFoundError:
                continue
            if synced < size:
                found.append((path, synced, size))
        return found

    def tear(self, rng: random.Random) -> str:
        """As `lose_power`, but for the journal that was being written: a part of its last bytes stays.

        Says what was done; empty when nothing was being written.
        """
        torn = [each for each in self.unsynced("*.log") if each[2] - each[1] > 1]
        if not torn:
            return ""
        path, synced, size = rng.choice(torn)
        kept = rng.randrange(1, size - synced)
        beginning = path.read_bytes()[: synced + kept]
        self.lose_power()
        path.write_bytes(beginning)
        return f"{kept} of the last {size - synced} bytes are in {path.name}, behind byte {synced:,}"

    @property
    def hits(self) -> int:
        """How many calls the present mode has hit since it was set: the evidence."""
        _, _, hits = _CONTROL.unpack(self._control_file.read_bytes())
        return int(hits)


def _synced_size_bytes(path: Path) -> int:
    """As the shim noted it; 0 of a file that was never synced."""
    try:
        return int.from_bytes(os.getxattr(path, _SYNCED), sys.byteorder)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return 0
