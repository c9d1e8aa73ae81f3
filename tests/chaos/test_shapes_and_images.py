"""Links that are slow or disorderly, disks whose power is cut, writes that are torn, and another build."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.lab import builds, image, namespaces
from chaos.lab.commands import run
from chaos.lab.disk import Disk, build
from chaos.lab.network import CLIENTS, Shape
from chaos.lab.proxies import Proxies
from chaos.lab.relay import Relay, Rule
from node import __version__

# Two hosts on a bridge, and frames that go from one to the other through the relay.
_RELAYED = r"""
import asyncio, json, sys
from chaos.lab.commands import run
from chaos.lab.namespaces import Namespaces
from chaos.lab.network import Shape

SERVE = (
    "import socket; s = socket.create_server(('', 9)); print('up', flush=True)\n"
    "c, _ = s.accept(); n = 0\n"
    "while d := c.recv(1 << 16): n += len(d)\n"
    "print(n)"
)
SEND = "import socket, sys; socket.create_connection((sys.argv[1], 9)).sendall(bytes(300_000))"


async def main():
    network = Namespaces({"n0": "zone-a", "n1": "zone-b"})
    await network.start()
    shape = Shape(delay_s=0.005, jitter_s=0.002, duplicate_percent=20, hurry_percent=20, lose_percent=1)
    await network.shape([("n0", "n1"), ("n1", "n0")], shape)
    serve = await asyncio.create_subprocess_exec(
        *network.command("n1", [sys.executable, "-c", SERVE]), stdout=asyncio.subprocess.PIPE
    )
    await serve.stdout.readline()
    await run(*network.command("n0", [sys.executable, "-c", SEND, network.address("n1")]))
    received = int(await serve.stdout.readline())
    told = await network.told()
    await network.stop()
    print(json.dumps([received, told.carried, told.duplicated, told.overtaken, told.late_s]))


if __name__ == "__main__":
    asyncio.run(main())
"""


_DISTANT = """
import asyncio, json, sys
from chaos.lab.commands import run
from chaos.lab.namespaces import Namespaces

DIAL = (
    "import socket, sys, time; began = time.monotonic(); s = socket.socket(); s.settimeout(1.0)\\n"
    "try: s.connect((sys.argv[1], 9)); print(time.monotonic() - began)\\n"
    "except ConnectionRefusedError: print(time.monotonic() - began)\\n"
    "except TimeoutError: print(-1)"
)


async def main():
    network = Namespaces({"n0": "zone-a", "n1": "zone-b", "n2": "zone-a"}, 0.05)
    await network.start()

    async def dial(target):
        return float(await run(*network.command("n0", [sys.executable, "-c", DIAL, network.address(target)])))

    told = [await dial("n1"), await dial("n2")]
    await network.block([("n0", "n1")])
    told.append(await dial("n1"))
    await network.block(())
    told += [await dial("n1"), (await network.told()).carried]
    await network.stop()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
"""


def entered(folder: Path, script: str) -> list[float]:
    """The list that a script prints inside namespaces of its own."""
    (folder / "inside.py").write_text(script)
    start = "import sys, inside; from chaos.lab import namespaces; namespaces.enter('inside')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, "-c", start]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [float(each) for each in done.stdout.strip("[]\n").split(", ")]


@pytest.mark.skipif(namespaces.available() is not None, reason="no network namespaces here")
def test_a_relay_carries_everything_late_twice_and_out_of_order(tmp_path: Path) -> None:
    received, carried, duplicated, overtaken, late_s = entered(tmp_path, _RELAYED)
    assert received == 300_000
    assert carried > duplicated > 0
    assert overtaken > 0
    assert late_s > 0


@pytest.mark.skipif(namespaces.available() is not None, reason="no network namespaces here")
def test_zones_are_apart_and_a_partition_is_one_all_the_same(tmp_path: Path) -> None:
    apart_s, beside_s, cut, healed_s, carried = entered(tmp_path, _DISTANT)
    assert apart_s >= 0.1 <= healed_s, "there and back"
    assert 0 <= beside_s < 0.1
    assert cut == -1
    assert carried == 0, "distance is no evidence of a fault"


def test_without_rules_a_relay_has_nothing_to_tell() -> None:
    assert Relay().rule([]).carried == 0
    with pytest.raises(OSError, match="No such device"):
        Relay().rule([Rule("no-such-interface", "nor-this", "00:00:00:00:00:01", Shape())])


async def test_proxies_carry_shaped_links_late() -> None:
    network = Proxies({"n0": "zone-a", "n1": "zone-b"})
    await network.start()
    try:
        received = asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1_000)
            received.set()
            writer.close()

        server = await asyncio.start_server(take, network.address("n1"), 7400)
        async with server:
            await network.shape([("n0", "n1")], Shape(delay_s=0.02, bytes_per_s=100_000))
            for source, late in (("n0", True), (CLIENTS, False)):
                before = (await network.told()).carried
                _, writer = await asyncio.open_connection(network.dial(source, "n1"), 7400)
                writer.write(bytes(1_000))
                async with asyncio.timeout(10):
                    await received.wait()
                received.clear()
                writer.close()
                assert ((await network.told()).carried > before) == late
            assert (await network.told()).late_s >= 0.03
    finally:
        await network.stop()


@pytest.mark.skipif(image.available() is not None, reason="no loop mounts here")
async def test_what_was_not_synced_is_gone_after_a_power_loss(tmp_path: Path) -> None:
    disk = image.Image(tmp_path / "disk.img", tmp_path / "disk")
    await disk.make()
    try:
        with (disk.place / "synced").open("wb") as file:
            file.write(bytes(10_000))
            file.flush()
            os.fsync(file.fileno())
            file.write(bytes(5_000))
            file.flush()
            (disk.place / "new").write_bytes(bytes(100))
            disk.cut()
            with pytest.raises(OSError, match="Input/output error"):
                (disk.place / "later").write_bytes(b"never")
        await disk.mount_again()
        assert {path.name: size for path, size in disk.sizes().items()} == {"synced": 10_000}
    finally:
        await run("umount", str(disk.place))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the shim needs gcc")
def test_a_torn_write_ends_anywhere_behind_what_was_synced(tmp_path: Path) -> None:
    library = build(tmp_path)
    assert library is not None
    root = tmp_path / "data"
    root.mkdir()
    disk = Disk(library, tmp_path / "control", root)
    script = (
        "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\n"
        "os.write(f, b'a' * 1000); os.fsync(f); os.write(f, b'b' * 500)"
    )
    journal = root / "000001.log"
    subprocess.run(
        [sys.executable, "-c", script, str(journal)], env={**os.environ, **disk.environment}, check=True
    )
    assert disk.unsynced("*.log") == [(journal, 1_000, 1_500)]
    assert "of the last 500 bytes" in disk.tear(random.Random(1))
    torn = journal.read_bytes()
    assert 1_000 < len(torn) < 1_500
    assert torn == (b"a" * 1_000 + b"b" * 500)[: len(torn)]


def test_another_build_says_another_version(tmp_path: Path) -> None:
    path = builds.python_path(builds.another(tmp_path / "build"))
    script = "import node, stele, storage, consensus; print(node.__version__, storage.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    version, place = done.stdout.split()
    assert version != __version__
    assert place.startswith(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no checkout"):
        builds.checkout(tmp_path)
