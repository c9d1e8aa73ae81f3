"""stele erasure …"""

from __future__ import annotations

import sys
from time import monotonic, sleep
from typing import Annotated, Literal

from cyclopts import App, Parameter

from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.exits import UsageError, complain
from stele.cli.output import item_of
from stele.cli.progress import progress_bar
from stele.client import BlockingLedger, Erasure, ErasureReplica, Unavailable

WAIT_S_DEFAULT = 120.0
POLL_S = 0.2
REPORT_S = 10.0
"""Where there is no bar, because standard error is no terminal, a line is written this often."""

VERSIONS_MAX = 1_000
"""That a request may name (docs/operating.md, "Limits")."""

REPLICA_COLUMNS = ("id", "complete", "completed_at", "waiting_for")

WaitS = Annotated[float, Parameter(name="--wait-s")]
Flag = Annotated[bool, Parameter(negative="")]

erasure_app = App(name="erasure", help="Remove the content of revisions for good, and see how far that is.")


@erasure_app.command(name="create")
def create_erasure(
    ledger: str,
    table: str,
    key: str,
    /,
    *,
    reason: str,
    versions: str | None = None,
    all_versions: Annotated[bool, Parameter(name="--all", negative="")] = False,
    wait: bool = True,
    wait_s: WaitS = WAIT_S_DEFAULT,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Erase the content of revisions of a document, on every replica, and wait until nothing of it is left.

    What proves the revisions stays valid. There is no way back. Exit code 4: it is erased already, or the
    cluster does not allow it (allow_erasure); 5: not every replica was done in time, see stele erasure show.

    Parameters
    ----------
    table
        A table's name, or the id (name@seq) of a dropped one.
    reason
        Why. It stands in the journal for ever, for everybody to read.
    versions
        Which versions: numbers and ranges, such as 0,3-7.
    all_versions
        All there are.
    wait
        Wait until every replica is done.
    wait_s
        How long to wait for that, in seconds.
    """
    if (versions is None) != all_versions:
        raise UsageError("give either --versions or --all")
    with connection.open() as client:
        reached = client.ledger(ledger)
        chosen: list[int] | Literal["all"] = "all" if versions is None else parse_versions(versions)
        made = reached.erase(table, key, chosen, reason=reason, idempotency_key=idempotency_key)
        complain(f"erased: block {made.seq} of ledger {ledger}")
        if wait:
            made = _until_complete(reached, made, wait_s)
    _print(made, output)


@erasure_app.command(name="show")
def show_erasure(
    ledger: str,
    seq: int,
    /,
    *,
    wait: Flag = False,
    wait_s: WaitS = WAIT_S_DEFAULT,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Show an erasure, and how far each replica is with it.

    Parameters
    ----------
    seq
        The erasure's block.
    wait
        Wait until every replica is done; exit code 5 when that takes too long.
    wait_s
        How long to wait for that, in seconds.
    """
    with connection.open() as client:
        reached = client.ledger(ledger)
        found = reached.erasure(seq)
        if wait:
            found = _until_complete(reached, found, wait_s)
    _print(found, output)


def parse_versions(text: str) -> list[int]:
    """ "0,3-7" as numbers. Raises UsageError."""
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (
            first.isascii() and first.isdecimal() and (not dash or (last.isascii() and last.isdecimal()))
        ):
            raise UsageError(f"--versions: {part!r} is neither a number nor a range such as 3-7")
        begin, end = int(first), int(last or first)
        if end < begin or end - begin >= VERSIONS_MAX:
            raise UsageError(f"--versions: {part!r} is no range of 1 to {VERSIONS_MAX} versions")
        chosen += range(begin, end + 1)
    return list(dict.fromkeys(chosen))


def _until_complete(ledger: BlockingLedger, erasure: Erasure, wait_s: float) -> Erasure:
    """Raises Unavailable when a replica is not done after `wait_s`."""
    deadline_s = monotonic() + wait_s
    report_s = monotonic() + REPORT_S
    with progress_bar("erasing", "replicas", total=len(erasure.replicas)) as bar:
        while not erasure.complete:
            if monotonic() > deadline_s:
                raise Unavailable(
                    f"not every replica was done within {wait_s:.0f} s: {_state(erasure)}; it goes on, and "
                    f"stele erasure show {ledger.name} {erasure.seq} says how far it is"
                )
            if not sys.stderr.isatty() and monotonic() >= report_s:
                report_s = monotonic() + REPORT_S
                complain(_state(erasure))
            sleep(POLL_S)
            erasure = ledger.erasure(erasure.seq)
            done = sum(replica.complete for replica in erasure.replicas)
            bar.update(done, completed=done)
    return erasure


def _state(erasure: Erasure) -> str:
    waiting = [each for each in erasure.replicas if not each.complete]
    return ", ".join(f"{each.id} {_waits(each)}" for each in waiting)


def _waits(replica: ErasureReplica) -> str:
    match replica.waiting_for:
        case "block":
            return "has not got it yet"
        case "answer":
            return "does not answer"
        case other:
            return f"still has it in its {other}"


def _print(erasure: Erasure, output: Output) -> None:
    printer = output.printer()
    replicas = [item_of(replica) for replica in erasure.replicas]
    members = item_of(erasure)
    if output.format == "json":
        printer.item(members | {"replicas": replicas})
        return
    if output.format == "table":
        printer.item({name: value for name, value in members.items() if name != "replicas"})
    printer.items(replicas, REPLICA_COLUMNS)
