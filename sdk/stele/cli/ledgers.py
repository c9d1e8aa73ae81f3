"""stele ledger …, stele table …"""

from __future__ import annotations

from cyclopts import App

from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.output import item_of

LEDGER_COLUMNS = ("name", "size", "created_at", "deletion_protection", "id")
TABLE_COLUMNS = ("name", "state", "created_seq", "id")

ledger_app = App(name="ledger", help="Create, list and delete ledgers.")
table_app = App(name="table", help="Create, list and drop tables.")


@ledger_app.command(name="create")
def create_ledger(
    ledger: str,
    /,
    *,
    deletion_protection: bool | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Create a ledger; an existing one stays as it is.

    Parameters
    ----------
    ledger
        Its name.
    deletion_protection
        Whether it refuses to be deleted (a new one does unless told otherwise).
    """
    with connection.open() as client:
        created = client.create_ledger(ledger, deletion_protection=deletion_protection)
    output.printer().item(item_of(created))


@ledger_app.command(name="list")
def list_ledgers(*, connection: Connection = CONNECTION, output: Output = OUTPUT) -> None:
    """List all ledgers."""
    with connection.open() as client:
        output.printer().items(map(item_of, client.ledgers()), LEDGER_COLUMNS)


@ledger_app.command(name="show")
def show_ledger(ledger: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT) -> None:
    """Show a ledger: its size, id and verifier key."""
    with connection.open() as client:
        output.printer().item(item_of(client.ledger(ledger).info()))


@ledger_app.command(name="delete")
def delete_ledger(ledger: str, /, *, connection: Connection = CONNECTION) -> None:
    """Delete a ledger with all its history. Refused while it is protected."""
    with connection.open() as client:
        client.delete_ledger(ledger)


@table_app.command(name="create")
def create_table(
    ledger: str, table: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT
) -> None:
    """Create a table; an existing one stays as it is."""
    with connection.open() as client:
        output.printer().item(item_of(client.ledger(ledger).create_table(table)))


@table_app.command(name="list")
def list_tables(ledger: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT) -> None:
    """List the tables of a ledger, dropped ones included."""
    with connection.open() as client:
        output.printer().items(map(item_of, client.ledger(ledger).tables()), TABLE_COLUMNS)


@table_app.command(name="show")
def show_table(
    ledger: str, table: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT
) -> None:
    """Show one table."""
    with connection.open() as client:
        output.printer().item(item_of(client.ledger(ledger).table(table)))


@table_app.command(name="drop")
def drop_table(
    ledger: str, table: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT
) -> None:
    """Drop a table. Its history stays readable."""
    with connection.open() as client:
        output.printer().item(item_of(client.ledger(ledger).drop_table(table)))
