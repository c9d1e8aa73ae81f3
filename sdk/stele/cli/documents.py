"""stele document …"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from stele.cli.connection import CONNECTION, OUTPUT, Connection, InputArgument, Output
from stele.cli.output import item_of
from stele.cli.sources import read_data
from stele.client.documents import ReadConsistency

REVISION_COLUMNS = ("version", "op", "seq", "at", "tx", "data")
DOCUMENT_COLUMNS = ("key", "version", "seq", "at", "data")

Flag = Annotated[bool, Parameter(negative="")]

document_app = App(name="document", help="Write and read documents.")


@document_app.command
def put(
    ledger: str,
    table: str,
    key: str,
    data: InputArgument | None = None,
    /,
    *,
    if_version: int | None = None,
    if_absent: Flag = False,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Write the next revision of a document.

    Parameters
    ----------
    data
        The document, a JSON object: the text itself, @FILE, or - for standard input.
    if_version
        Only when the document stands at this version.
    if_absent
        Only when there is no such document.
    idempotency_key
        Repeating a write with the same key does not write again.
    """
    document = read_data(data)
    with connection.open() as client:
        written = client.ledger(ledger).put(
            table, key, document, if_version=if_version, if_absent=if_absent, idempotency_key=idempotency_key
        )
    output.printer().item(item_of(written))


@document_app.command
def add(
    ledger: str,
    table: str,
    data: InputArgument | None = None,
    /,
    *,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Write a document under a key that the server makes.

    Parameters
    ----------
    data
        The document, a JSON object: the text itself, @FILE, or - for standard input.
    """
    document = read_data(data)
    with connection.open() as client:
        output.printer().item(
            item_of(client.ledger(ledger).add(table, document, idempotency_key=idempotency_key))
        )


@document_app.command
def get(
    ledger: str,
    table: str,
    key: str,
    /,
    *,
    version: int | None = None,
    as_of_seq: int | None = None,
    as_of: str | None = None,
    snapshot: Flag = False,
    proof: Flag = False,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Read a document: the current revision, a version, or what stood at a block or a time.

    With --verifier-key, and with --proof, the answer is verified before it is shown.

    Parameters
    ----------
    version
        This version, counted from 0.
    as_of_seq
        As it stood after this block.
    as_of
        As it stood at this time, such as 2026-11-23T13:35:31Z.
    snapshot
        Ask any node what it has; faster, and perhaps a little old.
    proof
        Verify, and show the proof. Without a key the one the server shows is trusted from now on.
    """
    with connection.open(first_use=proof) as client:
        if proof:
            connection.trusted_key(client, ledger)
        document = client.ledger(ledger).get(
            table,
            key,
            version=version,
            as_of_seq=as_of_seq,
            as_of=as_of,
            consistency=_consistency(snapshot),
            verify=True if proof else None,
        )
    item = item_of(document)
    if not proof:
        item.pop("proof", None)
    output.printer().item(item)


@document_app.command
def delete(
    ledger: str,
    table: str,
    key: str,
    /,
    *,
    if_version: int | None = None,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Delete a document by a revision without data. Its history stays readable.

    Parameters
    ----------
    if_version
        Only when the document stands at this version.
    """
    with connection.open() as client:
        written = client.ledger(ledger).delete(
            table, key, if_version=if_version, idempotency_key=idempotency_key
        )
    output.printer().item(item_of(written))


@document_app.command
def history(
    ledger: str,
    table: str,
    key: str,
    /,
    *,
    limit: int | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Show the revisions of a document, newest first; also of a deleted one.

    Parameters
    ----------
    limit
        At most so many revisions.
    """
    with connection.open() as client:
        revisions = client.ledger(ledger).history(table, key, limit=limit)
        output.printer().items(map(item_of, revisions), REVISION_COLUMNS)


@document_app.command(name="list")
def list_documents(
    ledger: str,
    table: str,
    /,
    *,
    prefix: str = "",
    after: str | None = None,
    limit: int | None = None,
    as_of_seq: int | None = None,
    as_of: str | None = None,
    snapshot: Flag = False,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """List the documents of a table in the order of their keys, as they stood at one block.

    Parameters
    ----------
    prefix
        Only keys that begin so.
    after
        Begin after this key.
    limit
        At most so many documents.
    as_of_seq
        As they stood after this block.
    as_of
        As they stood at this time, such as 2026-11-23T13:35:31Z.
    snapshot
        Ask any node what it has; faster, and perhaps a little old.
    """
    with connection.open() as client:
        documents = client.ledger(ledger).scan(
            table,
            prefix=prefix,
            after=after,
            limit=limit,
            as_of_seq=as_of_seq,
            as_of=as_of,
            consistency=_consistency(snapshot),
        )
        output.printer().items(map(item_of, documents), DOCUMENT_COLUMNS)


def _consistency(snapshot: bool) -> ReadConsistency:
    return "snapshot" if snapshot else "strong"
