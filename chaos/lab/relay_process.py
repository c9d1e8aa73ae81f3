"""The laboratory's end of relay.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from chaos.lab.network import Told
from chaos.lab.relay import Rule

_ANSWER_TIMEOUT_S = 60.0


class RelayProcess:
    """Runs from the first rules on, until `stop`."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def rule(self, rules: Sequence[Rule]) -> Told:
        """Returns, when they are in force, what was done under those before. Raises RuntimeError."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "chaos.lab.relay"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the relay has no pipes")
        process.stdin.write(msgspec.json.encode(list(rules)) + b"\n")
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise RuntimeError("the relay of frames does not answer") from error
        if not line:
            raise RuntimeError("the relay of frames has ended; its last words are above")
        return msgspec.json.decode(line, type=Told)

    async def stop(self) -> None:
        """Safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()
