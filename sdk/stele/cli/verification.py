"""stele verify"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from cyclopts import Parameter

from stele.cli.connection import CONNECTION, OUTPUT, Connection, InputArgument, Output, read_policy
from stele.cli.exits import UsageError, complain
from stele.cli.progress import Bar, progress_bar
from stele.cli.receipts import verify_receipt_file
from stele.cli.sources import Source, opened
from stele.client import BlockingClient
from stele.client.export import ExportHead
from stele.client.trust import parse_key
from stele.verify.errors import Incomplete
from stele.verify.export import ExportReport, verify_export
from stele.verify.limits import EXPORT_LINE_SIZE_BYTES_MAX
from stele.verify.policy import TrustPolicy


def verify(
    what: str | None = None,
    /,
    *,
    file: InputArgument | None = None,
    key: Annotated[str | None, Parameter(name="--key")] = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Verify a whole journal (every hash, the chain, the tree, state roots, signatures), or a receipt.

    With a ledger, its journal comes from the cluster, and must extend what this user has seen of it before.
    With --file, an export is verified without any server; so is a receipt, given its file (a name with a dot
    or a slash) and --policy or --key. Ends with exit code 6 when anything is wrong.

    Parameters
    ----------
    what
        The ledger to verify, or the file of a receipt.
    file
        An export to verify instead; .gz is unpacked; - is standard input.
    key
        The verifier key, as --verifier-key. Without one, a ledger's is taken from the server the first time
        and remembered; a file is then checked for inner consistency only.
    """
    key = key or connection.verifier_key
    if (what is None) == (file is None):
        raise UsageError("give either a ledger or --file")
    if what is not None and ("." in what or "/" in what):
        policy = _policy(connection, key)
        output.printer().item(verify_receipt_file(what, policy))
        return
    if file is not None:
        report = _verify_file(file, key)
    else:
        connection = replace(connection, verifier_key=None if connection.policy else key)
        with connection.open(first_use=True) as client:
            report = _verify_ledger(client, str(what), connection)
    output.printer().item(_report_item(report))


def _policy(connection: Connection, key: str | None) -> TrustPolicy:
    """What a receipt is checked against."""
    if connection.policy is not None:
        return read_policy(connection.policy)
    if key is None:
        raise UsageError("a receipt is checked against --policy FILE or --key")
    return TrustPolicy((parse_key(key),))


def _verify_ledger(client: BlockingClient, ledger: str, connection: Connection) -> ExportReport:
    journal = client.ledger(ledger)
    key = parse_key(connection.trusted_key(client, ledger))
    checkpoint = journal.checkpoint()  # extends what is remembered, or raises
    lines = journal.export(0, checkpoint.size)
    first = next(lines, b"")
    head = ExportHead.parse(first)
    with progress_bar("verifying", "blocks", total=head.to_seq) as bar:

        def watched() -> Iterator[bytes]:
            yield first
            for number, line in enumerate(lines, start=1):
                yield line
                bar.update(number, completed=number)

        report = verify_export(watched(), key)
    if (report.size, report.root) != (checkpoint.size, checkpoint.root):
        raise Incomplete("size of the export", expected=checkpoint.size, found=report.size)
    return report


def _verify_file(file: str, key: str | None) -> ExportReport:
    if key is None:
        complain("without --key only inner consistency is checked, which shows damage but not forgery")
    trust = None if key is None else parse_key(key)
    with opened(file) as source, progress_bar("verifying", "blocks", total=source.size_bytes) as bar:
        return verify_export(_lines(source, bar), trust)


def _lines(source: Source, bar: Bar) -> Iterator[bytes]:
    number = -1  # the first line is the head
    # One byte more than the verifier takes, so that it sees when a line is too long.
    while line := source.stream.readline(EXPORT_LINE_SIZE_BYTES_MAX + 2):
        number += 1
        yield line.removesuffix(b"\n")
        bar.update(number, completed=source.position_bytes())


def _report_item(report: ExportReport) -> dict[str, Any]:
    signed = report.checkpoint is not None
    return {
        "result": "verified" if signed else "consistent in itself; no signature checked",
        "ledger": report.name,
        "ledger_id": report.ledger,
        "blocks": report.blocks,
        "revisions": report.revisions,
        "keys": report.keys,
        "seals": report.seals,
        "state_root": None if report.state_root is None else report.state_root.hex(),
        "size": report.size,
        "root": None if report.root is None else report.root.hex(),
        "first_at": report.first_at,
        "last_at": report.last_at,
        "signed_by": None if report.checkpoint is None else report.checkpoint.origin,
    }
