"""One `steled` process of the laboratory: its files, its life and its deaths."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from chaos import limits
from chaos.lab.disk import Disk
from chaos.lab.image import Image
from chaos.lab.network import CLIENTS, Network


@dataclass(frozen=True, slots=True)
class Place:
    """Who a node is and where it stands."""

    id: str
    zone: str
    directory: Path
    on_image: bool = False
    """Whether its data lies on a disk of its own (image.py)."""

    @property
    def data(self) -> Path:
        return (self.disk if self.on_image else self.directory) / "data"

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    @property
    def log_file(self) -> Path:
        return self.directory / "steled.log"

    @property
    def config_file(self) -> Path:
        return self.directory / "steled.toml"


_DISK_FAILED = (b"IO error", b"No space left")


class Node:
    """Starts `steled serve` with the settings in its config file, and does to it what zones do."""

    def __init__(self, place: Place, network: Network, settings: Mapping[str, object]) -> None:
        self.place = place
        self.id = place.id
        self.zone = place.zone
        self.starts = 0
        self.environment: dict[str, str] = {}
        """Beside the laboratory's own, for the next start: shims and what they read."""
        self.disk: Disk | None = None
        self.image = Image(place.directory / "disk.img", place.disk) if place.on_image else None
        self._network = network
        self._process: asyncio.subprocess.Process | None = None
        place.directory.mkdir(parents=True, exist_ok=True)
        # A JSON string, number, boolean or list of strings is also a TOML one.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        place.config_file.write_text("".join(lines))

    @property
    def http(self) -> str:
        return f"http://{self._network.dial(CLIENTS, self.id)}:{limits.HTTP_PORT}"

    @property
    def pid(self) -> int | None:
        """None while the process does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def exit_code(self) -> int | None:
        """Of the last process; negative for a signal, None while it runs or before the first."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Starts the process unless it runs; does not wait until it serves."""
        if self.pid is not None:
            return
        # -P: not the code in the working directory, but that of PYTHONPATH, which may be another build.
        command = [sys.executable, "-P", "-m", "node.main", "serve", "--config", str(self.place.config_file)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STELED_")}
        environment["PYTHONPATH"] = os.pathsep.join(
            [path for path in (self.environment.get("PYTHONPATH", ""), *sys.path) if path]
        )
        # Only for the node: `ip netns exec` would load a shim, too.
        own = [f"{name}={value}" for name, value in self.environment.items() if name != "PYTHONPATH"]
        command = ["env", *own, *command]
        with self.place.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                # However the laboratory ends, by kill -9 too, its nodes end with it.
                *("setpriv", "--pdeathsig", "KILL"),
                *self._network.command(self.id, command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self.starts += 1

    async def serves(self) -> bool:
        """Whether it answers requests."""
        timeout = aiohttp.ClientTimeout(total=limits.OBSERVE_TIMEOUT_S)
        try:
            async with aiohttp.request("GET", f"{self.http}/livez", timeout=timeout) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def lose_power(self) -> int:
        """Takes away what was not synced, and returns how many bytes; the process must be dead, and `image`
        cut at the moment of its death. Without an image only what was appended to files can go."""
        if self.image is not None:
            before = self.image.sizes()
            await self.image.mount_again()
            after = self.image.sizes()
            return sum(max(size - after.get(path, 0), 0) for path, size in before.items())
        return 0 if self.disk is None else await asyncio.to_thread(self.disk.lose_power)

    @property
    def keeps_what_was_synced(self) -> bool:
        """Whether a loss of power can be told from a mere death: what was not synced is known, or goes."""
        return self.disk is not None and (self.image is not None or self.disk.remembers)

    def use_disk(self, library: Path) -> None:
        """Puts the shim between this node and its data, from its next start on."""
        self.disk = Disk(library, self.place.directory / "disk.control", self.place.data)
        self.environment.update(self.disk.environment)

    def log_contains(self, words: bytes, start: int = 0) -> bool:
        """Whether its log says so from byte `start` on."""
        with self.place.log_file.open("rb") as log:
            log.seek(start)
            return words in log.read()

    def found_contradiction(self) -> bool:
        """Whether it ever stopped because an invariant broke, other than by a disk that failed."""
        with self.place.log_file.open("rb") as log:
            return any(
                b"InvariantBroken:" in line and not any(words in line for words in _DISK_FAILED)
                for line in log
            )

    @property
    def log_size_bytes(self) -> int:
        return self.place.log_file.stat().st_size if self.place.log_file.exists() else 0

    def _signal(self, number: signal.Signals) -> bool:
        """Whether there was a process to take it."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # It has ended, and asyncio has yet to say so.
            return False
        return True

    async def kill(self) -> bool:
        """kill -9, and waits for the end; False when it did not run."""
        # A stopped process takes SIGKILL, too.
        if not self._signal(signal.SIGKILL):
            return False
        await self._ended()
        return True

    async def terminate(self) -> None:
        """SIGTERM; SIGKILL when it does not stop in time, and then raises TimeoutError with its log."""
        if not self._signal(signal.SIGTERM):
            return
        try:
            async with asyncio.timeout(limits.STOP_TIMEOUT_S):
                await self._ended()
        except TimeoutError as error:
            await self.kill()
            raise TimeoutError(
                f"{self.id} does not stop within {limits.STOP_TIMEOUT_S:.0f} s; see {self.place.log_file}"
            ) from error

    async def ended_within(self, timeout_s: float) -> bool:
        """Whether the process ends by itself within `timeout_s`, or has ended."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended()
        except TimeoutError:
            return False
        return True

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def pause(self) -> bool:
        return self._signal(signal.SIGSTOP)

    def resume(self) -> bool:
        return self._signal(signal.SIGCONT)

    async def wipe(self) -> None:
        """The disk is replaced by an empty one; the process must not run."""
        if self.pid is not None:
            raise RuntimeError(f"{self.id} runs; a disk is taken away from a dead node only")
        await asyncio.to_thread(shutil.rmtree, self.place.data, ignore_errors=True)
