"""stele witness, stele checkpoint cosign"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from stele.cli.connection import CONNECTION, Connection, read_policy
from stele.cli.exits import InputError, UsageError, complain
from stele.cli.journal import File, checkpoint_app, destination
from stele.client import Client, SteleError
from stele.client.witnesses import ask_witness
from stele.format.cosignature import Cosigner
from stele.format.errors import InvalidNote
from stele.verify.checkpoint import parse_checkpoint
from stele.verify.policy import TrustPolicy
from stele.witness.records import Records, WitnessDamaged, load_or_create_key
from stele.witness.server import WitnessService


def witness(
    *, name: str, logs: Path, data: Path, key: Path | None = None, host: str = "127.0.0.1", port: int = 7480
) -> None:
    """Be a witness (C2SP tlog-witness): cosign checkpoints of the logs named, as long as they only grow.

    Serves POST /add-checkpoint. It needs no TLS of its own behind a proxy that has it.

    Parameters
    ----------
    name
        The witness's name, such as witness.example/w1.
    logs
        A policy file; its log lines say which logs are witnessed.
    data
        The directory that remembers what was cosigned. Losing it means to need a new name and key.
    key
        The file of the witness's key; by default key.pem in the data directory. Made when it is not there.
    host
        The address to listen on.
    port
        The port to listen on.
    """
    policy = read_policy(logs)
    if not policy.logs:
        raise UsageError(f"{logs} names no log")
    try:
        records = Records(data)
        cosigner = Cosigner(name, load_or_create_key(key or data / "key.pem"))
    except (WitnessDamaged, InvalidNote) as error:
        raise InputError(str(error)) from error
    complain(f"witness {cosigner.verifier_key()} for {', '.join(log.name for log in policy.logs)}")
    try:
        asyncio.run(_serve(WitnessService(cosigner, policy.logs, records), host, port))
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    finally:
        records.close()


async def _serve(service: WitnessService, host: str, port: int) -> None:
    runner = web.AppRunner(service.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        complain(f"listening on http://{host}:{port}/add-checkpoint")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


@checkpoint_app.command(name="cosign")
def cosign_checkpoint(ledger: str, /, *, file: File = None, connection: Connection = CONNECTION) -> None:
    """Have the witnesses of the policy cosign the newest checkpoint, and write it with their cosignatures.

    Asks each witness for which the policy states a URL. Ends with exit code 6 when the policy's quorum is not
    reached.

    Parameters
    ----------
    file
        Where to: complete or not at all. By default standard output.
    """
    if connection.policy is None:
        raise UsageError("give the policy that names the witnesses: --policy FILE")
    policy = read_policy(connection.policy)
    note = asyncio.run(_cosigned(ledger, policy, connection))
    with destination(file) as out:
        out.write(note.encode())
    parse_checkpoint(note, policy.for_origin(note.partition("\n")[0]))


async def _cosigned(name: str, policy: TrustPolicy, connection: Connection) -> str:
    # The log's word is enough here: what the witnesses say is what is being asked for.
    trust = connection.log_trust(policy)
    client = Client(connection.endpoints, trust=trust, memory=connection.memory())
    async with client, aiohttp.ClientSession() as session:
        ledger = client.ledger(name)
        # Witnesses without a URL are replicas, whose cosignatures the cluster gathers itself.
        outside = sum(witness.url is not None for witness in policy.witnesses.values())
        checkpoint = await ledger.checkpoint(cosignatures=max(0, policy.least_signers() - outside))
        opened = (await ledger.guard()).open(checkpoint.note)
        note = checkpoint.note

        async def fetch(old: int, new: int) -> list[bytes]:
            return [bytes.fromhex(text) for text in (await ledger.consistency(old, new)).path]

        for label, each in policy.witnesses.items():
            if each.url is None or f"\u2014 {each.key.name} " in note:
                continue
            try:
                note += await ask_witness(session, each, checkpoint.note, opened, fetch)
            except SteleError as error:
                complain(f"{label}: {error}")
        return note
