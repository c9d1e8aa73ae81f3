"""stele ledger …, stele table …, stele cluster …"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.output import item_of

LEDGER_COLUMNS = ("name", "size", "created_at", "deletion_protection", "id")
TABLE_COLUMNS = ("name", "state", "created_seq", "id")
NODE_COLUMNS = ("id", "zone", "role", "http", "connected", "match_index")

ledger_app = App(name="ledger", help="Create, list and delete ledgers.")
table_app = App(name="table", help="Create, list and drop tables.")
cluster_app = App(name="cluster", help="Look at the cluster, and move its leadership.")


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


@cluster_app.command(name="status")
def cluster_status(
    *,
    nodes_only: Annotated[bool, Parameter(negative="")] = False,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Show the nodes, the leader and how far each has got, as the node that answers sees it.

    Parameters
    ----------
    nodes_only
        List only the nodes.
    """
    with connection.open() as client:
        status = client.cluster()
    printer = output.printer()
    nodes = [item_of(node) for node in status.nodes]
    if output.format == "json" and not nodes_only:
        printer.item(item_of(status))
        return
    if output.format == "table" and not nodes_only:
        printer.item({name: value for name, value in item_of(status).items() if name != "nodes"})
    printer.items(nodes, NODE_COLUMNS)


@cluster_app.command(name="transfer")
def transfer_leadership(
    node: str | None = None,
    /,
    *,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Hand the leadership to another node, for example before the leader's machine is stopped.

    Parameters
    ----------
    node
        Its id; without one, the node with the most complete log takes over.
    """
    with connection.open() as client:
        leader = client.transfer_leadership(node)
    output.printer().item({"leader": leader})
