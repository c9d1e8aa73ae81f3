"""stele audit"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, NamedTuple

from cyclopts import Parameter

from stele.audit.auditor import Auditor, AuditReport
from stele.audit.journal_copy import CopyDamaged, CopyHead, JournalCopy
from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.exits import InputError, complain
from stele.cli.progress import progress_bar
from stele.client import CheckpointFile, Client, Unavailable
from stele.verify.policy import TrustPolicy

KEEP_S = 600.0
"""While it follows, the replay is kept this often: it is as large as what is in memory."""


def audit(
    ledger: str,
    /,
    *,
    copy: Path,
    follow: Annotated[bool, Parameter(negative="")] = False,
    from_start: Annotated[bool, Parameter(negative="")] = False,
    replica: Annotated[bool, Parameter(negative="")] = False,
    interval_s: float = 5.0,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Audit a ledger: check every block, version, state root and signed checkpoint into a copy of its own.

    It goes on where the last one ended: what that came to was kept beside the copy, and is checked against
    the signed checkpoint. Ends with exit code 6 when anything is wrong; what proves it is kept there, too.

    Parameters
    ----------
    copy
        The directory of the copy; made when it is not there.
    follow
        Do not end, but look again and again.
    from_start
        Replay the copy from its first block, as the first time.
    replica
        Audit what the node at the first endpoint has on its own disk, instead of the leader.
    interval_s
        How long to wait in between, in seconds.
    """
    try:
        how = _How(interval_s if follow else None, from_start, replica)
        asyncio.run(_audit(ledger, copy, how, connection, output))
    except CopyDamaged as error:
        raise InputError(str(error)) from error


class _How(NamedTuple):
    interval_s: float | None
    from_start: bool
    replica: bool


async def _audit(name: str, directory: Path, how: _How, connection: Connection, output: Output) -> None:
    memory = CheckpointFile(directory / "checkpoints.json")
    trust = replace(connection).trust(first_use=True)
    endpoints = connection.endpoints.split(",")
    client = Client(
        endpoints[:1] if how.replica else endpoints,
        trust=trust,
        memory=memory,
        timeout_s=connection.timeout_s,
        only_these=how.replica,
    )
    async with client:
        ledger = client.ledger(name)
        guard = await ledger.guard()
        copy = JournalCopy(directory, CopyHead(1, name, guard.ledger_id, guard.origin))
        try:
            log = TrustPolicy(guard.policy.logs)
            auditor = Auditor(ledger, guard.ledger_id, guard.origin, log, copy, own=how.replica)
            with progress_bar("replaying", "blocks") as bar:
                auditor.replay(bar.update, from_start=how.from_start)
            await _follow_on(auditor, output, how.interval_s)
        finally:
            copy.close()


async def _follow_on(auditor: Auditor, output: Output, interval_s: float | None) -> None:
    keep_at_s = 0.0
    while True:
        await _follow(auditor, output, once=interval_s is None)
        if monotonic() >= keep_at_s:
            auditor.keep()
            keep_at_s = monotonic() + KEEP_S
        if interval_s is None:
            return
        await asyncio.sleep(interval_s)


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
