"""Running the tools of the system, such as ip and nft."""

from __future__ import annotations

import asyncio


class CommandFailed(Exception):
    """A tool ended with an error; the message has the command and what it said."""


async def run(*command: str, given: str = "") -> str:
    """Runs a command with `given` on its standard input and returns its output. Raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(given.encode())
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: {errors.decode(errors='replace').strip()}")
    return output.decode()
