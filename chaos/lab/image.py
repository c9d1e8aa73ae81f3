"""A disk of its own for each node, whose power can be cut: an ext4 file system in a file, mounted by loop.

The power is cut by the file system itself, which stops at once and writes nothing more, its own journal
included (EXT4_IOC_SHUTDOWN without a flush, as xfstests' "godown"). What was not synced, bytes, pages, new
files and renames, is then really gone, as far as the kernel had not happened to write it back; mounting it
again replays the journal, as after a crash. It needs the rights of real root.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chaos.lab.commands import CommandFailed, run

_SIZE_BYTES = 16 << 30
"""The file is sparse: it takes what is written."""
_SHUTDOWN = 0x8004587D
_NO_FLUSH = struct.pack("I", 2)
"""FS_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH, from linux/fs.h and fs/ext4/ext4.h."""
_UNMOUNT_TIMEOUT_S = 60.0
_PROBE_TIMEOUT_S = 60.0
_PROBE_SIZE_BYTES = 16 << 20


def available() -> str | None:
    """None when such disks can be made here, else why not. Call it inside the laboratory's namespaces."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    missing = [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        script = (
            f"truncate -s {_PROBE_SIZE_BYTES} probe.img && mkfs.ext4 -q -F probe.img && mkdir probe"
            " && mount -o loop probe.img probe && umount probe"
        )
        probe = subprocess.run(
            ["sh", "-c", script], cwd=folder, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    return None if probe.returncode == 0 else probe.stderr.decode(errors="replace").strip()


class Image:
    """`file` holds the file system that is mounted at `place`."""

    def __init__(self, file: Path, place: Path) -> None:
        self.place = place
        self._file = file

    async def make(self) -> None:
        """An empty one. Raises CommandFailed."""
        self.place.mkdir(parents=True, exist_ok=True)
        with self._file.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        await run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._file))
        await self._mount()

    async def _mount(self) -> None:
        # What is deleted becomes a hole in the file again.
        await run("mount", "-o", "loop,discard", str(self._file), str(self.place))

    def cut(self) -> None:
        """From now on nothing reaches the disk."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _NO_FLUSH)
        finally:
            os.close(descriptor)

    def sizes(self) -> Mapping[Path, int]:
        """Of all files."""
        return {path: path.stat().st_size for path in self.place.rglob("*") if path.is_file()}

    async def mount_again(self) -> None:
        """After `cut`, when no process uses it any more. Raises CommandFailed."""
        try:
            async with asyncio.timeout(_UNMOUNT_TIMEOUT_S):
                while not await self._unmounted():
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise CommandFailed(f"{self.place} is in use and cannot be unmounted") from error
        await self._mount()

    async def _unmounted(self) -> bool:
        try:
            await run("umount", str(self.place))
        except CommandFailed as failure:
            if "busy" in str(failure):
                return False
            raise
        return True
