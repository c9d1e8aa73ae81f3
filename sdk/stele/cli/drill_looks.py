"""Who looks at a node that was tampered with: a client, an auditor, its peers. Each says what it noticed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from stele.audit.auditor import Auditor
from stele.audit.journal_copy import CopyHead, JournalCopy
from stele.cli.drill_desk import DemoNode
from stele.client import Client, SteleError, VerificationFailed
from stele.client.trust import TrustPolicy
from stele.verify.policy import TrustPolicy as Policy

LOOK_TIMEOUT_S = 10.0


class Look(NamedTuple):
    """What somebody made of it."""

    who: str
    noticed: bool
    how: str


def node_bound(node: DemoNode, policy: str) -> Client:
    """A client that knows this node alone, and remembers nothing."""
    return Client([node.http], trust=TrustPolicy.parse(policy), timeout_s=LOOK_TIMEOUT_S, only_these=True)


async def client_looks(
    node: DemoNode, policy: str, ledger: str, table: str, key: str, written: dict[str, Any]
) -> Look:
    """Reads the document from the node, with its proof, under the policy."""
    async with node_bound(node, policy) as client:
        try:
            document = await client.ledger(ledger).get(table, key, consistency="snapshot")
        except VerificationFailed as error:
            return Look("client", True, f"refuses the answer: {_line(error)}")
        except SteleError as error:
            return Look("client", True, f"gets no answer from {node.id}: {_line(error)}")
    if document.data != written:
        return Look("client", False, f"BELIEVES {document.data}")
    return Look(
        "client", False, "reads the true document, with its proof: what was altered is not part of it"
    )


async def auditor_looks(node: DemoNode, policy: str, ledger: str) -> Look:
    """Replays the journal on the node's own disk, with every checkpoint that it keeps."""
    async with node_bound(node, policy) as client:
        with tempfile.TemporaryDirectory(prefix="stele-drill-") as directory:
            try:
                report = await _audited(client, ledger, Path(directory))
            except VerificationFailed as error:
                return Look(
                    "auditor", True, f"refuses the journal: {_line(error).partition(' (evidence')[0]}"
                )
            except SteleError as error:
                return Look("auditor", True, f"gets no journal from {node.id}: {_line(error)}")
    return Look(
        "auditor", False, f"finds {report} blocks that hold: what was altered is not part of the journal"
    )


async def _audited(client: Client, name: str, directory: Path) -> int:
    ledger = client.ledger(name)
    guard = await ledger.guard()
    copy = JournalCopy(directory, CopyHead(1, name, guard.ledger_id, guard.origin))
    try:
        log = Policy(guard.policy.logs)
        auditor = Auditor(ledger, guard.ledger_id, guard.origin, log, copy, own=True)
        return (await auditor.follow_once()).size
    finally:
        copy.close()


async def serves(node: DemoNode) -> bool:
    """Whether it says that it is ready."""
    timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{node.http}/readyz") as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def alarms_of(peers: Sequence[DemoNode]) -> list[str]:
    """What the other nodes have to say about their cluster, as their /readyz has it."""
    found: list[str] = []
    timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for peer in peers:
            try:
                async with session.get(f"{peer.http}/readyz") as response:
                    alarms = msgspec.json.decode(await response.read(), type=dict[str, Any]).get("alarms", [])
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                continue
            found += [f"{peer.id}: {alarm}" for alarm in alarms]
    return found


def _line(error: Exception) -> str:
    """Without the checkpoints that a failed verification shows as evidence."""
    return str(error).partition("\n")[0]
