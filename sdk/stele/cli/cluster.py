"""stele cluster …: look at the members, change them, move the leadership.

Every step here may be repeated: what is done already stays done, so a command that was broken off is
finished by giving it again.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from stele.cli.catching_up import WAIT_S_DEFAULT, promote_when_caught_up
from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.exits import Exit, UsageError, complain
from stele.cli.output import item_of
from stele.client import BlockingClient, ClusterStatus, NotFound, Unavailable

MEMBER_COLUMNS = ("id", "zone", "role", "voter", "healthy", "lag", "raft", "http")
ZONE_COLUMNS = ("zone", "voters", "can_lose", "why")

cluster_app = App(name="cluster", help="Look at the cluster, change its members, move its leadership.")

WaitS = Annotated[float, Parameter(name="--wait-s")]


@cluster_app.command(name="status")
def cluster_status(
    *,
    members_only: Annotated[bool, Parameter(negative="")] = False,
    lose: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> int:
    """Show the members, how far each is, and which zone could fail now, as the leader sees it.

    Without a leader, what the node that answers sees, with exit code 5.

    Parameters
    ----------
    members_only
        List only the members.
    lose
        Ask for one zone only: can we lose it now? Exit code 4 means no, and why stands in the answer.
    """
    with connection.open() as client:
        status, led = _status_of(client)
    if lose is not None:
        return max(_print_loss(status, lose, output), led)
    _print_status(status, output, members_only=members_only)
    for warning in status.warnings:
        complain(f"warning: {warning.detail}")
    return led


def _status_of(client: BlockingClient) -> tuple[ClusterStatus, Exit]:
    """As the leader sees it, or else, at once, as any node does."""
    status = client.cluster()
    if status.leader is not None:
        try:
            return client.cluster(consistency="strong"), Exit.OK
        except Unavailable as error:
            complain(" ".join(str(error).split()))
            status = client.cluster()
    complain(f"no leader answers; this is what node {status.node} sees")
    return status, Exit.UNAVAILABLE


def _print_status(status: ClusterStatus, output: Output, *, members_only: bool) -> None:
    printer = output.printer()
    members = [item_of(member) for member in status.members]
    if output.format == "json" and not members_only:
        printer.item(item_of(status))
        return
    if output.format == "table" and not members_only:
        apart = {"members", "zones", "warnings"}
        printer.item({name: value for name, value in item_of(status).items() if name not in apart})
    printer.items(members, MEMBER_COLUMNS)
    if output.format == "table" and not members_only:
        zones = ({"zone": zone} | item_of(found) for zone, found in sorted(status.zones.items()))
        printer.items(zones, ZONE_COLUMNS)


def _print_loss(status: ClusterStatus, zone: str, output: Output) -> Exit:
    found = status.zones.get(zone)
    if found is None:
        raise UsageError(f"there is no zone {zone!r}; there are {', '.join(sorted(status.zones))}")
    output.printer().item({"zone": zone} | item_of(found))
    return Exit.OK if found.can_lose else Exit.REFUSED


@cluster_app.command(name="add")
def add_member(
    node: str,
    /,
    *,
    zone: str,
    raft: str,
    http: str,
    promote: Annotated[bool, Parameter(negative="")] = False,
    wait_s: WaitS = WAIT_S_DEFAULT,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Add a node, which runs with join = true, as a learner: it gets the log and does not vote yet.

    Parameters
    ----------
    node
        Its id.
    zone
        Its availability zone.
    raft
        host:port where the other members reach its replication.
    http
        host:port where the other members and clients reach its HTTP API.
    promote
        Wait until it has caught up, then make it a voter.
    wait_s
        How long to wait for that, in seconds.
    """
    with connection.open() as client:
        member = client.add_member(node, zone=zone, raft=raft, http=http)
        if promote:
            member = promote_when_caught_up(client, node, wait_s)
    output.printer().item(item_of(member))


@cluster_app.command(name="promote")
def promote_member(
    node: str,
    /,
    *,
    wait: Annotated[bool, Parameter(negative="")] = False,
    wait_s: WaitS = WAIT_S_DEFAULT,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Make a learner that has caught up a voter. Refused, with exit code 4, while it has not.

    Parameters
    ----------
    node
        Its id.
    wait
        Wait until it has caught up.
    wait_s
        How long to wait for that, in seconds.
    """
    with connection.open() as client:
        member = promote_when_caught_up(client, node, wait_s) if wait else client.promote_member(node)
    output.printer().item(item_of(member))


@cluster_app.command(name="remove")
def remove_member(node: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT) -> None:
    """Take a member out of the cluster, for good: no other member may ever have its id.

    Refused, with exit code 4, when too few of the voters that stay can be reached.

    Parameters
    ----------
    node
        Its id.
    """
    with connection.open() as client:
        _remove(client, node)
    output.printer().item({"id": node, "removed": True})


def _remove(client: BlockingClient, node: str) -> None:
    """Raises NotFound only for what was no member when it began: an attempt whose answer was lost counts."""
    if client.cluster(consistency="strong").member(node) is None:
        client.remove_member(node)  # Says which: removed earlier, or never a member.
        return
    try:
        client.remove_member(node)
    except NotFound as error:
        if error.problem is None or error.problem.slug != "member-removed":
            raise


@cluster_app.command(name="replace")
def replace_member(
    old: str,
    new: str,
    /,
    *,
    raft: str,
    http: str,
    zone: str | None = None,
    wait_s: WaitS = WAIT_S_DEFAULT,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Put a new node, which runs with join = true, in the place of a member, dead or alive.

    The new one is added, catches up and becomes a voter before the old one is removed.

    Parameters
    ----------
    old
        Id of the member that goes.
    new
        Id of the node that comes; ids are never used again.
    raft
        host:port where the other members reach the new node's replication.
    http
        host:port where the other members and clients reach the new node's HTTP API.
    zone
        Availability zone of the new node; by default that of the old one.
    wait_s
        How long to wait until it has caught up, in seconds.
    """
    if old == new:
        raise UsageError("ids are never used again: the new node needs an id of its own")
    with connection.open() as client:
        status = client.cluster(consistency="strong")
        leaving, coming = status.member(old), status.member(new)
        known = leaving or coming
        if known is None:
            raise NotFound(f"there is no member {old!r}")
        client.add_member(new, zone=zone or known.zone, raft=raft, http=http)
        member = promote_when_caught_up(client, new, wait_s)
        if leaving is not None:
            _remove(client, old)
            complain(f"{old} is removed")
    output.printer().item(item_of(member))


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
