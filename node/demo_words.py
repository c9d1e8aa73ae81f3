"""What a demo cluster says once it serves: where it is, and commands to try."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from node import sample
from node.config import Peer


def ready_text(peers: Sequence[Peer], verifier_key: str, policy_file: Path) -> str:
    """For the shell that the demo was started in: its commands work there as they stand."""
    first = peers[0].http_url
    documents = f"{first}/v1/ledgers/{sample.LEDGER}/tables/{sample.TABLE}/documents"
    stele = _stele_command()
    names = ", ".join(f"{peer.id} in {peer.zone}: {peer.http_url}" for peer in peers)
    of_vehicle = f"{sample.LEDGER} {sample.TABLE} {sample.FIRST_VIN}"
    return (
        f"\nStele serves.\n  {names}\n  API: {first}/docs\n"
        f"  verifier key of ledger {sample.LEDGER!r}: {verifier_key}\n"
        f"  trust policy (the log and a majority of the replicas): {policy_file}\n\n"
        "Try:\n"
        f"""  curl -X PUT {documents}/my-car -d '{{"make": "Aurora", "owner": "me"}}'\n"""
        f"  {stele} document history {of_vehicle} --endpoints {first}\n"
        f"  {stele} verify {sample.LEDGER} --endpoints {first} --key {verifier_key}\n\n"
        "Ctrl-C stops the cluster; its data stays.\n"
    )


def _stele_command() -> str:
    """How to call the client with no environment activated."""
    script = Path(sys.executable).with_name("stele")
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m stele.cli"
    if script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))
