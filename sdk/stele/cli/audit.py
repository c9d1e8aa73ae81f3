"""stele audit"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stele.audit.auditor import Auditor, AuditReport
from stele.audit.journal_copy import CopyDamaged, CopyHead, JournalCopy
from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.exits import InputError, complain
from stele.cli.progress import progress_bar
from stele.client import CheckpointFile, Client, Unavailable
from stele.verify.policy import TrustPolicy


def audit(
    ledger: str,
    /,
    *,
    copy: Path,
    follow: Annotated[bool, Parameter(negative="")] = False,
    interval_s: float = 5.0,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Audit a ledger: check every block, version, state root and signed checkpoint into a copy of its own.

    The copy is checked again from its first block whenever the command begins, then taken further. Ends with
    exit code 6 when anything is wrong; what proves it is kept beside the copy.

    Parameters
    ----------
    copy
        The directory of the copy; made when it is not there.
    follow
        Do not end, but look again and again.
    interval_s
        How long to wait in between, in seconds.
    """
    try:
        asyncio.run(_audit(ledger, copy, interval_s if follow else None, connection, output))
    except CopyDamaged as error:
        raise InputError(str(error)) from error


async def _audit(
    name: str, directory: Path, interval_s: float | None, connection: Connection, output: Output
) -> None:
    memory = CheckpointFile(directory / "checkpoints.json")
    trust = replace(connection).trust(first_use=True)
    client = Client(connection.endpoints, trust=trust, memory=memory, timeout_s=connection.timeout_s)
    async with client:
        ledger = client.ledger(name)
        guard = await ledger.guard()
        copy = JournalCopy(directory, CopyHead(1, name, guard.ledger_id, guard.origin))
        try:
            auditor = Auditor(ledger, guard.ledger_id, guard.origin, TrustPolicy(guard.policy.logs), copy)
            with progress_bar("replaying", "blocks", total=copy.size_bytes) as bar:
                auditor.replay(lambda done: bar.update(done, completed=done))
            while True:
                await _follow(auditor, output, once=interval_s is None)
                if interval_s is None:
                    return
                await asyncio.sleep(interval_s)
        finally:
            copy.close()


async def _follow(auditor: Auditor, output: Output, *, once: bool) -> None:
    try:
        report = await auditor.follow_once()
    except Unavailable as error:
        if once:
            raise
        complain(f"not reached, trying again: {error}")
        return
    if once or report.new_blocks:
        output.printer().item(_item(report))


def _item(report: AuditReport) -> dict[str, Any]:
    return {
        "result": "holds",
        "ledger": report.ledger,
        "size": report.size,
        "root": report.root.hex(),
        "revisions": report.revisions,
        "keys": report.keys,
        "seals": report.seals,
        "state_root": None if report.state_root is None else report.state_root.hex(),
        "checkpoints_compared": report.checkpoints,
        "new_blocks": report.new_blocks,
    }
