"""stele transact, stele transaction …, stele bulk"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from stele.cli.columns import Empty
from stele.cli.connection import CONNECTION, OUTPUT, Connection, InputArgument, Output
from stele.cli.exits import Exit, complain
from stele.cli.output import item_of
from stele.cli.progress import progress_bar
from stele.cli.records import CsvRules, csv_lines, key_rule, ndjson_lines
from stele.cli.sources import Source, opened, read_whole
from stele.client import Acknowledgement, BulkReport
from stele.client.access import new_idempotency_key
from stele.client.bulk_lines import Line

BulkFormat = Literal["ndjson", "csv"]

REFUSALS_SHOWN_MAX = 10

transaction_app = App(name="transaction", help="Look at transactions.")


def transact(
    ledger: str,
    file: InputArgument,
    /,
    *,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Commit a transaction over several documents: all of it, or none.

    Parameters
    ----------
    file
        JSON (- for standard input): {"operations": [{"op": "put", "table", "key", "data"}, …],
        "conditions": […], "read_seq": …}
    idempotency_key
        Repeating a transaction with the same key does not write again.
    """
    body = read_whole(file)
    with connection.open() as client:
        committed = client.ledger(ledger).transact_json(body, idempotency_key=idempotency_key)
    output.printer().item(item_of(committed))


@transaction_app.command(name="show")
def show_transaction(
    ledger: str, tx: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT
) -> None:
    """Show what became of a transaction: committed, refused or unknown."""
    with connection.open() as client:
        output.printer().item(item_of(client.ledger(ledger).transaction(tx)))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LoadFlags:
    """How the input becomes documents and keys."""

    format: Annotated[BulkFormat | None, Parameter(name="--format")] = None
    """ndjson or csv; by default what the file's name says, else ndjson. With --key or --key-template a line
    of NDJSON is a document; without, it is {"key": …, "data": {…}}."""

    key: str | None = None
    """Field of the document that is its key."""

    key_template: str | None = None
    """Key from several fields, such as "{carrier}-{flight}"; {#} is the number of the record from 1."""

    delimiter: str | None = None
    """What separates CSV cells: by default a comma, in a .tsv file a tab."""

    text: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """CSV column that is text even if it looks like numbers. May be repeated."""

    all_text: Annotated[bool, Parameter(negative="")] = False
    """All CSV columns are text."""

    null: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    """CSV cell that counts as empty, such as NA. May be repeated."""

    empty: Empty = "absent"
    """What an empty CSV cell becomes: no member at all, or null."""

    def lines(self, source: Source) -> Iterator[Line]:
        """The lines of the load. Raises UsageError and InputError."""
        kind, delimiter = format_of(source.name, self.format)
        key_of = key_rule(self.key, self.key_template)
        if kind == "ndjson":
            return ndjson_lines(source, key_of)
        nulls = frozenset({"", *self.null})
        rules = CsvRules(self.delimiter or delimiter, self.text, self.all_text, nulls, self.empty)
        return csv_lines(source, key_of, rules)


LOAD_FLAGS = LoadFlags()


def bulk(
    ledger: str,
    table: str,
    file: InputArgument,
    /,
    *,
    flags: LoadFlags = LOAD_FLAGS,
    idempotency_key: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> int:
    """Load many documents from NDJSON or CSV, also compressed with gzip.

    A broken connection is taken up again. Refused lines do not stop the load; the command then ends with
    exit code 4. A load that was broken off is finished by the same command with the --idempotency-key it
    named: nothing is written twice.

    In CSV a column becomes integers or numbers when all its values are written as such without losing
    anything (007 stays text), and text otherwise.

    Parameters
    ----------
    file
        The file; .gz is unpacked; - is standard input.
    idempotency_key
        Names this load, so that it can be finished later; by default a random one.
    """
    load_key = idempotency_key or new_idempotency_key()
    started = False

    def acknowledged(acknowledgements: list[Acknowledgement]) -> None:
        nonlocal started
        started = True
        bar.update(acknowledgements[-1].line, completed=source.position_bytes())

    try:
        with (
            opened(file) as source,
            progress_bar("loading", "documents", total=source.size_bytes) as bar,
            connection.open() as client,
        ):
            report = client.ledger(ledger).bulk(
                flags.lines(source), table=table, idempotency_key=load_key, on_acknowledged=acknowledged
            )
    except BaseException as error:
        if started or isinstance(error, KeyboardInterrupt):  # Acknowledgements may be on their way.
            complain(f"what was loaded stays; repeat with --idempotency-key {load_key} to load the rest")
        raise
    return _print_report(report, output)


def format_of(file: str, given: BulkFormat | None) -> tuple[BulkFormat, str]:
    """The format of a file and its usual delimiter, by its name unless it is given."""
    suffix = PurePath(file.removesuffix(".gz")).suffix.lower()
    delimiter = "\t" if suffix == ".tsv" else ","
    return given or ("csv" if suffix in {".csv", ".tsv"} else "ndjson"), delimiter


def _print_report(report: BulkReport, output: Output) -> int:
    item: dict[str, Any] = {
        "accepted": report.accepted,
        "refused": report.refused,
        "duplicates": report.duplicates,
        "reconnections": report.reconnections,
        "idempotency_key": report.idempotency_key,
    }
    if output.format == "json":
        item["refusals"] = report.refusals
    output.printer().item(item)
    sys.stdout.flush()
    for refusal in report.refusals[:REFUSALS_SHOWN_MAX]:
        complain(f"record {refusal.line} was refused: {refusal.problem.detail}")
    if report.refused > REFUSALS_SHOWN_MAX:
        complain(f"{report.refused - REFUSALS_SHOWN_MAX} more records were refused")
    return Exit.REFUSED if report.refused else Exit.OK
