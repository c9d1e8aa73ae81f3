"""Where `stele drill tamper` asks a demo cluster to be damaged: a Unix socket in the demo's data directory.

Only `steled demo` opens one, for its own nodes, so nothing else can be drilled. A connection is a drill: one
JSON object a line, one for an answer. Whoever hangs up before the damaged node is healed has it healed. A
drill that even the demo did not survive left a marker beside the node's data, which the next start goes by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from node import limits
from node.supervisor import Supervisor
from storage.errors import StorageError
from storage.tamper import NothingToAlter, Target, alter

SOCKET = "drill.sock"
_MARKER = "altered"
_KEEP = "cosigner-key"
"""What a wiped node keeps: its own keys, under which the others know it."""


class DrillRefused(Exception):
    """What was asked cannot be done; the message says why."""


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    do: str
    node: str = ""
    kind: str = ""
    ledger: str = ""
    table: str = ""
    key: str = ""
    byte: int | None = None


_decode = msgspec.json.Decoder(_Asked).decode


class DrillDesk:
    """Damages one node of a demo cluster at a time, and heals it. `describe()` says what the cluster is;
    `until_ready(node)` returns when a node serves."""

    def __init__(
        self,
        data: Path,
        supervisor: Supervisor,
        describe: Callable[[], dict[str, Any]],
        until_ready: Callable[[str], Awaitable[None]],
        report: Callable[[str], None],
    ) -> None:
        self._data = data
        self._supervisor = supervisor
        self._describe = describe
        self._until_ready = until_ready
        self._report = report
        self._altered: str | None = None
        self._log_from_bytes = 0
        self._server: asyncio.Server | None = None
        self._drill = asyncio.Lock()

    async def start(self) -> None:
        """Open the desk. A path too long for a socket leaves the demo without drills, which it says."""
        path = self._data / SOCKET
        path.unlink(missing_ok=True)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, path, limit=limits.DRILL_LINE_SIZE_BYTES
            )
            path.chmod(0o600)
        except OSError as error:
            self._report(f"no drills on this demo: {path}: {error}")

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._data / SOCKET).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._drill.locked():
                await _say(writer, {"refused": "another drill is under way"})
                return
            async with self._drill:
                try:
                    while line := await reader.readline():
                        await _say(writer, await self._answer(line))
                finally:
                    await self._heal()
        except (ConnectionError, ValueError):
            return  # Hung up, or a line without end.
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = _decode(line)
            match asked.do:
                case "describe":
                    return self._describe()
                case "alter":
                    return await self._alter(asked)
                case "scrub":
                    return await self._scrub(limits.DRILL_SCRUB_ROWS_PER_S)
                case "look":
                    return self._look()
                case "heal":
                    await self._heal()
                    return {}
            raise DrillRefused(f"there is nothing like {asked.do!r}")
        except (msgspec.MsgspecError, DrillRefused, StorageError, TimeoutError) as error:
            return {"refused": str(error) or type(error).__name__}

    async def _alter(self, asked: _Asked) -> dict[str, Any]:
        """Stop the node, alter it, and start it again with its scrub off, so that others can look first."""
        self._check(asked.node)
        (self._data / asked.node / _MARKER).touch()
        self._altered = asked.node
        await self._supervisor.hold(asked.node)
        target = Target(asked.kind, asked.ledger, asked.table, asked.key, asked.byte)
        try:
            altered = await asyncio.to_thread(alter, self._data / asked.node / "data", target)
        except NothingToAlter:
            self._altered = None
            (self._data / asked.node / _MARKER).unlink()
            await self._supervisor.release(asked.node)
            raise
        self._report(f"drill: {asked.node}: {altered.where}: byte {altered.byte} is altered")
        await self._scrub(0)
        return altered._asdict()

    def _check(self, node_id: str) -> None:
        nodes = self._supervisor.ends
        if node_id not in nodes:
            raise DrillRefused(f"the demo has no node {node_id!r}")
        if self._altered is not None:
            raise DrillRefused(f"{self._altered} is altered already")
        if len(nodes) < limits.DRILL_NODES_MIN:
            raise DrillRefused(f"a drill needs {limits.DRILL_NODES_MIN} nodes, so that the others go on")
        down = [each for each in nodes if self._supervisor.exit_code(each) is not None]
        if down:
            raise DrillRefused(f"not all nodes run: {', '.join(down)}")

    async def _scrub(self, rows_per_s: int) -> dict[str, Any]:
        node_id = self._altered
        if node_id is None:
            raise DrillRefused("nothing is altered")
        await self._supervisor.hold(node_id)
        with contextlib.suppress(FileNotFoundError):
            self._log_from_bytes = self._log(node_id).stat().st_size
        await self._supervisor.release(node_id, "--scrub-rows-per-s", str(rows_per_s))
        return {}

    def _look(self) -> dict[str, Any]:
        """How the node's processes ended since it was last started here, and what it has complained of."""
        if self._altered is None:
            raise DrillRefused("nothing is altered")
        with self._log(self._altered).open("rb") as file:
            file.seek(self._log_from_bytes)
            lines = file.read(limits.DRILL_LOG_SIZE_BYTES).decode(errors="replace").splitlines()
        said = [text for text in map(_complaint, lines) if text is not None]
        return {"ends": self._supervisor.ends[self._altered], "said": list(dict.fromkeys(said))[:8]}

    async def _heal(self) -> None:
        """Throw away what the node has, and let it get everything from the others."""
        node_id = self._altered
        if node_id is None:
            return
        await self._supervisor.hold(node_id)
        await asyncio.to_thread(wipe, self._data / node_id)
        self._altered = None
        await self._supervisor.release(node_id)
        self._report(f"drill: {node_id} begins anew, and catches up")
        async with asyncio.timeout(limits.DEMO_READY_TIMEOUT_S):
            await self._until_ready(node_id)

    def _log(self, node_id: str) -> Path:
        return self._data / node_id / "steled.log"


async def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()


def _complaint(line: str) -> str | None:
    """What a line of a node's log complains of, if it does."""
    if line.startswith("steled: "):
        return line.removeprefix("steled: ")
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.get("level") not in ("critical", "error"):
        return None
    exception = str(entry.get("exception", "")).strip().rpartition("\n")[2].partition(": ")[2]
    why = entry.get("reason") or entry.get("error") or exception
    return f"{entry.get('event')}: {why}" if why else str(entry.get("event"))


def wipe(node: Path) -> None:
    """Empties the data of a node that does not run; its keys stay."""
    for each in (node / "data").iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif not each.name.startswith(_KEEP):
            each.unlink()
    (node / _MARKER).unlink(missing_ok=True)


def wipe_what_drills_left(data: Path) -> list[str]:
    """Empties the nodes that a drill altered and nobody healed; returns their names."""
    left = [marker.parent for marker in sorted(data.glob(f"n*/{_MARKER}"))]
    for node in left:
        wipe(node)
    return [node.name for node in left]
