"""Faults of disks: full, failing, slow, wiped, and rotten."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from chaos import limits
from chaos.faults.fault import took_effect
from chaos.lab.cluster import Cluster
from chaos.lab.disk import Disk, DiskMode
from chaos.lab.node import Node
from node import repairing
from node.limits import DISK_EXIT_CODE
from storage import fsck
from storage.errors import StorageError

_SLOW_S = 0.02
_CATCH_PERIOD_S = 0.002
_FILES = ("*.sst", "*.log", "MANIFEST-*")
"""RocksDB's tables, its journal, and its list of tables: in a random one of these sorts a bit flips."""


class FailingDisk:
    """The disk of a running node fails in one way; heal mends it and starts the node again if it stopped.

    A node that was told of a failed write or sync must end and never go on: what is on its disk is unknown.
    It must say by its exit status that it was the disk; there is no evidence otherwise.
    """

    def __init__(self, node: Node, disk: Disk, mode: DiskMode) -> None:
        self.kind = f"disk {mode}"
        self.targets = (node.id,)
        self._node = node
        self._disk = disk
        self._mode: DiskMode = mode

    async def inject(self) -> None:
        self._disk.set(self._mode, delay_s=_SLOW_S)
        await took_effect(self._hit)

    async def _hit(self) -> bool:
        return self._disk.hits > 0

    async def heal(self) -> str:
        hits = self._disk.hits
        if hits and self._mode != "slow":
            await self._node.ended_within(limits.FAIL_STOP_S)
        status = self._node.exit_code
        self._disk.set("none")
        await self._node.start()
        if not hits:
            return ""
        if self._mode == "slow":
            return f"{hits} calls delayed by {_SLOW_S * 1e3:.0f} ms"
        if status != DISK_EXIT_CODE:
            return ""
        return f"{hits} calls failed, and the node stopped itself for its disk"


class PowerLoss:
    """Nodes die at once, and their disks forget whatever was not synced."""

    kind = "power loss"

    def __init__(self, nodes: Sequence[Node], kind: str = kind) -> None:
        self.kind = kind
        self.targets = tuple(node.id for node in nodes)
        self._nodes = nodes
        self._lost_bytes = 0
        self._killed: list[str] = []

    async def inject(self) -> None:
        struck = [node for node in self._nodes if node.pid is not None]
        self._killed = [node.id for node in struck]
        # The disk first: nothing that a process does after its power is gone counts.
        await asyncio.gather(
            *(asyncio.to_thread(node.image.cut) for node in struck if node.image is not None)
        )
        await asyncio.gather(*(node.kill() for node in struck))
        for node in struck:
            self._lost_bytes += await node.lose_power()

    async def heal(self) -> str:
        for node in self._nodes:
            await node.start()
        if not self._killed:
            return ""
        real = self._nodes[0].image is not None
        how = "their file systems cut off and mounted again" if real else "their files cut"
        lost = f"{self._lost_bytes:,} bytes that were not synced are gone"
        return f"killed {', '.join(self._killed)}, {how}; {lost}"


class TornWrite:
    """A node dies in the middle of a write: what it wrote since the last sync ends anywhere.

    That it is filled up with zeros instead file systems that keep their order do not allow, and RocksDB does
    not open such a journal (docs/adr/0004-wal-recovery-mode.md): that would be rot, as a flipped bit is.
    """

    kind = "torn write"

    def __init__(self, node: Node, disk: Disk, rng: random.Random) -> None:
        self.targets = (node.id,)
        self._node = node
        self._disk = disk
        self._rng = rng
        self._torn = ""

    async def inject(self) -> None:
        # What an earlier death left behind is no write in whose middle this one comes.
        await took_effect(self._node.serves)
        # A sync that takes its time leaves the time to catch the node before it.
        self._disk.set("slow", delay_s=_SLOW_S)
        deadline_s = time.monotonic() + limits.EFFECT_TIMEOUT_S
        caught = False
        while not caught and time.monotonic() < deadline_s:
            await asyncio.sleep(_CATCH_PERIOD_S)
            caught = self._caught()
        self._disk.set("none")
        if not caught:
            return
        await self._node.kill()
        self._torn = await asyncio.to_thread(self._disk.tear, self._rng)

    def _caught(self) -> bool:
        """Stops the process if something is written and not synced, and it still is so then."""
        if not self._disk.unsynced("*.log") or not self._node.pause():
            return False
        if self._disk.unsynced("*.log"):
            return True
        self._node.resume()
        return False

    async def heal(self) -> str:
        await self._node.start()
        return f"killed in the middle of a write: {self._torn}" if self._torn else ""


class WipedDisk:
    """The node dies and gets an empty disk. It must come back by itself, and no promise of it be counted."""

    kind = "disk wiped"

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.targets = (node.id,)
        self._cluster = cluster
        self._node = node
        self._wiped = False

    async def inject(self) -> None:
        # Two lost disks at once are beyond what a majority can make good.
        await self._cluster.until_whole()
        await self._node.kill()
        await self._node.wipe()
        self._wiped = True

    async def heal(self) -> str:
        await self._node.start()
        if not self._wiped:
            return ""
        await self._cluster.until_whole()
        return "an empty directory, and a voter with the whole log again"


class BitFlip:
    """One bit of a dead node's files flips. It must say so, or serve nothing of it; then it is repaired."""

    kind = "bit flip"

    def __init__(self, cluster: Cluster, node: Node, rng: random.Random) -> None:
        self.targets = (node.id,)
        self._cluster = cluster
        self._node = node
        self._rng = rng
        self._where = ""
        self._found = ""
        self._served = False

    async def inject(self) -> None:
        await self._cluster.until_whole()
        await self._node.kill()
        sorts = [sorted(self._node.place.data.rglob(each)) for each in _FILES]
        found = [[path for path in paths if path.stat().st_size] for paths in sorts]
        self._where = flip_a_bit(
            self._rng.choice(self._rng.choice([each for each in found if each])), self._rng
        )
        self._found = await asyncio.to_thread(_fsck_of, self._node.place.data)
        await self._node.start()
        await took_effect(self._decided)

    async def _decided(self) -> bool:
        """Whether the node has made up its mind about what it found."""
        self._served = await self._node.serves()
        return self._served or self._node.pid is None

    async def heal(self) -> str:
        if not self._where:
            await self._node.start()
            return ""
        found = f"fsck: {self._found or 'clean'}; the node {self._conduct()}"
        await self._node.kill()
        # By force: a bit in what nobody reads is no damage that anybody sees.
        aside, _ = await asyncio.to_thread(
            repairing.repair, self._node.place.data, force=True, progress=lambda *_: None
        )
        await self._node.start()
        await self._cluster.until_whole()
        await asyncio.to_thread(shutil.rmtree, aside)
        return f"{self._where}: {found}; repaired and back"

    def _conduct(self) -> str:
        ended = self._node.pid is None
        if self._served:
            return "started, and ended when it came upon it" if ended else "started"
        return "refused to start" if ended else "was still starting"


def flip_a_bit(path: Path, rng: random.Random) -> str:
    """Flips one bit of a file that is not empty, and says which."""
    at, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {at:,} of {path.name}"


def _fsck_of(data: Path) -> str:
    try:
        return "; ".join(f"{each.where}: {each.what}" for each in fsck.check(data).findings[:1])
    except StorageError as error:
        return f"it cannot be opened: {error}"
