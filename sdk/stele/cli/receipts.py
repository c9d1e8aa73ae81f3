"""stele receipt …"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from stele.cli.connection import CONNECTION, Connection
from stele.cli.exits import InputError
from stele.cli.journal import File, destination
from stele.verify.entry import Fact
from stele.verify.limits import RECEIPT_SIZE_BYTES_MAX
from stele.verify.note import open_note
from stele.verify.policy import TrustPolicy
from stele.verify.receipt import ReceiptReport, verify_receipt

Flag = Annotated[bool, Parameter(negative="")]

receipt_app = App(name="receipt", help="Proofs to keep: one file that anybody can check without a server.")


@receipt_app.command(name="get")
def get_receipt(
    ledger: str,
    table: str,
    key: str,
    /,
    *,
    version: int | None = None,
    as_of_seq: int | None = None,
    as_of: str | None = None,
    history: Flag = False,
    file: File = None,
    connection: Connection = CONNECTION,
) -> None:
    """Get a receipt of the current document, or that there is none, and check it.

    Parameters
    ----------
    version
        Of this version instead.
    as_of_seq
        Of what stood there after this block instead.
    as_of
        Of what stood there at this time (RFC 3339) instead.
    history
        Of the complete history instead.
    file
        Where to: complete or not at all. By default standard output.
    """
    with connection.open(first_use=True) as client:
        connection.trusted_key(client, ledger)
        text = client.ledger(ledger).receipt(
            table, key, version=version, as_of_seq=as_of_seq, as_of=as_of, history=history
        )
    with destination(file) as out:
        out.write(text)


@receipt_app.command(name="block")
def get_block_receipt(
    ledger: str, seq: int, /, *, file: File = None, connection: Connection = CONNECTION
) -> None:
    """Get a receipt of a block with all its revisions, and check it.

    Parameters
    ----------
    file
        Where to: complete or not at all. By default standard output.
    """
    with connection.open(first_use=True) as client:
        connection.trusted_key(client, ledger)
        text = client.ledger(ledger).block_receipt(seq)
    with destination(file) as out:
        out.write(text)


def verify_receipt_file(path: str, policy: TrustPolicy) -> dict[str, Any]:
    """What a receipt in a file proves under a policy. Raises InputError and VerificationError."""
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
            text = file.read(RECEIPT_SIZE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return _item(verify_receipt(text, policy), policy)


def _item(report: ReceiptReport, policy: TrustPolicy) -> dict[str, Any]:
    receipt, checkpoint = report.receipt, report.checkpoint
    signers = open_note(report.note, policy.for_origin(receipt.ledger).keys).verified_names
    item: dict[str, Any] = {
        "result": "verified",
        "kind": receipt.kind,
        "ledger": receipt.ledger,
        "ledger_id": receipt.ledger_id,
    }
    if report.block is not None:
        header = report.block.header
        item |= {"seq": header.seq, "at": header.at, "tx": header.tx, "revisions": header.revision_count}
    if report.proven is not None:
        item |= {"table": receipt.table, "key": receipt.key}
        for name in ("as_of_seq", "as_of"):
            if (value := getattr(receipt, name)) is not None and isinstance(value, int | str):
                item[name] = value
        if receipt.kind == "history":
            facts = [fact for fact in (report.proven.revision, *report.proven.older) if fact is not None]
            item["revisions"] = [_fact(fact) for fact in facts]
        else:
            item |= _shown(report.proven.revision, report.proven.table_state)
    return item | {"checkpoint_size": checkpoint.size, "signed_by": ", ".join(signers)}


def _shown(fact: Fact | None, table_state: str) -> dict[str, Any]:
    if fact is not None:
        return _fact(fact)
    why = {"active": "there is no such document", "dropped": "the table was dropped"}
    return {"found": why.get(table_state, "there is no such table")}


def _fact(fact: Fact) -> dict[str, Any]:
    members: dict[str, Any] = {"version": fact.version, "op": fact.op, "seq": fact.seq}
    members |= {name: value for name, value in (("at", fact.at), ("tx", fact.tx)) if value is not None}
    if fact.op == "put":
        erased = "(erased or withheld)" if fact.erased_by is None else f"(erased by block {fact.erased_by})"
        members["data"] = fact.data if fact.opened else erased
    return members
