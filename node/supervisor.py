"""Keeps the node processes of a demo cluster alive, and never leaves one behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node import limits

_PR_SET_PDEATHSIG = 1
_KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 0)


@dataclass(frozen=True)
class NodeProcess:
    """What to run as one node: its settings, and where its log goes."""

    node_id: str
    config_file: Path
    log_file: Path


class Supervisor:
    """Runs every node as a process of its own, and starts those that die again.

    `on_change()` is called when a process was started; `report(text)` with what the user should know.
    """

    def __init__(
        self, nodes: Sequence[NodeProcess], on_change: Callable[[], None], report: Callable[[str], None]
    ) -> None:
        self._nodes = nodes
        self._on_change = on_change
        self._report = report
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._given_up: set[str] = set()
        self._held: set[str] = set()
        self.ends: dict[str, list[int]] = {node.node_id: [] for node in nodes}
        """What each node's processes ended with by themselves, since it was last released."""
        self._arguments: dict[str, tuple[str, ...]] = {}
        self._stopping = False

    @property
    def given_up(self) -> frozenset[str]:
        """Nodes that died at start too often to be started again."""
        return frozenset(self._given_up)

    def pid(self, node_id: str) -> int | None:
        process = self._processes.get(node_id)
        return None if process is None else process.pid

    async def start(self) -> None:
        for node in self._nodes:
            await self._begin(node)

    def exit_code(self, node_id: str) -> int | None:
        """What the node's process ended with; None while it runs."""
        process = self._processes.get(node_id)
        return None if process is None else process.returncode

    async def hold(self, node_id: str) -> None:
        """Stop a node, and start it no more until `release`. Nothing runs on its data when this returns."""
        self._held.add(node_id)
        watcher = self._watchers[node_id]
        kill_at_s = time.monotonic() + limits.DEMO_STOP_TIMEOUT_S
        while not watcher.done():
            process = self._processes[node_id]
            if process.returncode is None:
                process.kill() if time.monotonic() > kill_at_s else process.terminate()
            # Asked again: the watcher may have been about to start another one.
            await asyncio.wait({watcher}, timeout=limits.DEMO_HOLD_POLL_S)

    async def release(self, node_id: str, *arguments: str) -> None:
        """Start a node that is held, with more arguments to `steled serve` than its own."""
        self._held.discard(node_id)
        self._given_up.discard(node_id)
        self._arguments[node_id] = arguments
        self.ends[node_id].clear()
        await self._begin(next(node for node in self._nodes if node.node_id == node_id))

    async def stop(self) -> None:
        """SIGTERM to all, then wait; SIGKILL to what is still there after the deadline."""
        self._stopping = True
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        alive = [process for process in self._processes.values() if process.returncode is None]
        for process in alive:
            process.terminate()
        if alive:
            ends = [asyncio.ensure_future(process.wait()) for process in alive]
            await asyncio.wait(ends, timeout=limits.DEMO_STOP_TIMEOUT_S)
            for process in alive:
                if process.returncode is None:
                    self._report(f"a node (pid {process.pid}) did not stop in time and is killed")
                    process.kill()
            await asyncio.wait(ends)

    async def _begin(self, node: NodeProcess) -> None:
        await self._spawn(node)
        self._watchers[node.node_id] = asyncio.create_task(self._watch(node))

    async def _spawn(self, node: NodeProcess) -> None:
        with node.log_file.open("ab") as log:
            self._processes[node.node_id] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "node.main",
                "serve",
                "--config",
                str(node.config_file),
                *self._arguments.get(node.node_id, ()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session, so that Ctrl-C reaches the supervisor alone.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
                env=_environment(),
            )
        self._on_change()

    async def _watch(self, node: NodeProcess) -> None:
        quick_deaths = 0
        while not self._stopping:
            started_s = time.monotonic()
            code = await self._processes[node.node_id].wait()
            if node.node_id in self._held:
                return
            self.ends[node.node_id].append(code)
            quick = time.monotonic() - started_s < limits.DEMO_QUICK_DEATH_S
            own_fault = code not in _KILLED_FROM_OUTSIDE
            quick_deaths = quick_deaths + 1 if own_fault and quick else 0
            # A disk may be mended, or get room again, at any time.
            if quick_deaths >= limits.DEMO_QUICK_DEATHS_MAX and code != limits.DISK_EXIT_CODE:
                self._given_up.add(node.node_id)
                self._report(
                    f"{node.node_id} died {quick_deaths} times in a row at start (exit code {code}) and is "
                    f"given up; the others go on. Its log: {node.log_file}"
                )
                return
            self._report(f"{node.node_id} ended ({_ending(code)}) and is started again")
            delay_s = limits.DEMO_RESTART_DELAY_S * 2 ** min(quick_deaths, 16)
            await asyncio.sleep(min(delay_s, limits.DEMO_RESTART_DELAY_S_MAX))
            if node.node_id in self._held:
                return
            try:
                await self._spawn(node)
            except OSError as error:  # a full disk, no memory for a process: the next round tries again
                self._report(f"{node.node_id} cannot be started: {error}")


def _ending(code: int) -> str:
    if code == limits.DISK_EXIT_CODE:
        return f"its disk is full or failed, exit code {code}"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _environment() -> dict[str, str]:
    """The children import what this process imports, wherever it was started, and read no other settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STELED_")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return environment


def _die_with(parent_pid: int) -> Callable[[], None] | None:
    """For the child, before it runs: end when the supervisor does, even if that was kill -9.

    prctl(2), PR_SET_PDEATHSIG; Linux only. SIGKILL, because nothing less is certain to be heeded, and a
    node's data must bear it anyway.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:
            os._exit(1)

    return prepare
