"""One node's disk is a small one of its own, and it fills up: the node leaves, and comes back by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from node import limits
from storage import fsck
from tests.cluster.cluster import Cluster, Node, converged, export_of, wait_until
from tests.cluster.workload import LEDGER, TABLE, prepare

TIMEOUT = aiohttp.ClientTimeout(total=30)
DISK_SIZE_MIB = 128
LOAD_DOCUMENTS = 1_500
LOADS_MAX = 40
WRITABLE_WITHIN_S = 20.0
VICTIM = "n1"


def mounting(folder: Path, seed: Path) -> list[str]:
    """Runs a command with a disk of its own at `folder`, with what is in `seed`; other processes of the
    machine do not see it."""
    script = f'mount -t tmpfs -o size={DISK_SIZE_MIB}m tmpfs "$0" && cp -a "$1/." "$0" && shift && exec "$@"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    return [*unshare, "sh", "-c", script, str(folder), str(seed)]


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    disk, seed = folder / "disk", folder / "nothing"
    disk.mkdir()
    seed.mkdir()
    return subprocess.run([*mounting(disk, seed), "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if not can_mount(tmp_path):
        pytest.skip("no mounts of one's own here")
    made = Cluster(tmp_path)
    made.start()
    try:
        made.stop()
        folder, seed = made.data / VICTIM / "data", tmp_path / "seed"
        folder.rename(seed)
        folder.mkdir()
        made.prefix = mounting(folder, seed)
        made.start()
        yield made
    finally:
        made.kill_everything()


async def load(session: aiohttp.ClientSession, node: Node, name: str) -> None:
    """About 6 MiB that compression does not shrink, until all is accepted: the leader may be the one whose
    disk is full, and the stream then breaks off."""
    data = os.urandom(2_000).hex()
    lines = [f'{{"key":"{name}-{n}","data":{{"text":"{data[n:]}"}}}}' for n in range(LOAD_DOCUMENTS)]
    url = f"{node.http}/v1/ledgers/{LEDGER}/bulk?table={TABLE}"
    deadline_s = time.monotonic() + WRITABLE_WITHIN_S
    said = ""
    while f'"accepted":{LOAD_DOCUMENTS}' not in said:
        assert time.monotonic() < deadline_s, said[-300:]
        try:
            async with session.post(url, data="\n".join(lines) + "\n") as answer:
                said = await answer.text()
        except aiohttp.ClientError as error:
            said = repr(error)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_full_disk_takes_one_node_away_until_there_is_room(cluster: Cluster) -> None:
    victim_data = Path(f"/proc/{cluster.pid}/root{cluster.data / VICTIM / 'data'}")
    log = cluster.data / VICTIM / "steled.log"
    healthy = next(node for node in cluster.nodes() if node.id != VICTIM)
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        await prepare(session, cluster)
        await load(session, healthy, "before")
        ballast = victim_data / "ballast"
        free = shutil.disk_usage(victim_data).free
        ballast.write_bytes(bytes(max(0, free - (8 << 20))))

        for number in range(LOADS_MAX):
            # The cluster goes on all the time: whatever the one node does, these are accepted.
            await load(session, healthy, f"while-{number}")
            if b'"exit_status": 74' in log.read_bytes():
                break
        said = log.read_text()
        assert '"errno": "ENOSPC"' in said, said[-3000:]
        assert '"failure": "StorageFailed"' in said
        assert "InvariantBroken" not in said
        assert "see that the disk of" in said
        demo_log = cluster.root / "demo.log"
        again = "a node starts with"
        wait_until(lambda: log.read_text().count(again) >= 3, 60.0, "it is started again and again")
        assert f"exit code {limits.DISK_EXIT_CODE}" in demo_log.read_text()
        assert "given up" not in demo_log.read_text()
        await load(session, healthy, "without")

        ballast.unlink()
        await converged(session, cluster, LEDGER, timeout_s=90.0)
        exports = [(await export_of(session, node, LEDGER))[1:] for node in cluster.nodes()]
        assert exports[0] == exports[1] == exports[2]
    kept = cluster.root / "kept"
    shutil.copytree(victim_data, kept)  # What the mount holds ends with the cluster.
    cluster.stop()
    for each in (kept, *(cluster.data / node for node in ("n0", "n2"))):
        findings = fsck.check(next(each.rglob("store")).parent).findings
        assert findings == [], findings
