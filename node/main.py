"""The command `steled`: serve a node, run a demo cluster, check a stopped node's data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import uvloop
from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import Env, Toml
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import node
from consensus.errors import CredentialsInvalid, LogCorrupt
from node import certificates, limits, repairing
from node.app import StartFailed, run
from node.config import Config, ConfigInvalid, check_identifier
from node.demo import DemoFailed, run_demo
from node.fatal import ending_of
from node.key_commands import keys_app
from node.repairing import NothingDamaged
from node.signing_keys import SigningKeyInvalid
from storage import fsck as storage_fsck
from storage.errors import NotAStore, StorageError, StoreInUse

EXIT_OK = 0
EXIT_FAILED = 1
"""The node could not start, or fsck found something."""
EXIT_USAGE = 2

app = App(
    name="steled",
    version=node.__version__,
    help="The server of Stele, a replicated ledger database whose every answer can be proved.",
    result_action="return_value",
)


def _file_that_config_names(command: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """A source of settings: the TOML file that --config names, if it is given."""
    for argument in arguments:
        if argument.name == "--config" and argument.tokens:
            path = Path(argument.tokens[0].value)
            if not path.is_file():
                raise ConfigInvalid(f"config: there is no file {path}")
            Toml(path, must_exist=True, use_commands_as_keys=False)(command, commands, arguments)


_serve = App(name="serve", config=[Env("STELED_", command=False), _file_that_config_names])
app.command(_serve)

keys_app.config = _serve.config
app.command(keys_app)


@_serve.default
def serve(
    settings: Config,
    *,
    config: Annotated[Path | None, Parameter(help="TOML file with settings.")] = None,
) -> int:
    """Run one node of a cluster until SIGTERM or SIGINT.

    Each setting comes from the command line, else from the environment (STELED_ and its name in
    capitals), else from the file, else it has its default.
    """
    try:
        uvloop.run(run(settings))
    except (StartFailed, SigningKeyInvalid, CredentialsInvalid, StorageError, LogCorrupt) as error:
        ending = ending_of(error, settings.data_dir)
        if ending.cure is None:
            return _fail(str(error), EXIT_FAILED)
        return _fail(f"{error}; {ending.cure}", ending.exit_code)
    return EXIT_OK


@app.command
def demo(
    *,
    data: Path = Path("stele-demo"),
    nodes: int = 3,
    port: int = 7400,
    ready_file: Path | None = None,
    sample: bool = True,
    insecure: Annotated[bool, Parameter(negative="")] = False,
    allow_erasure: Annotated[bool, Parameter(negative="")] = False,
    seal_interval_s: float = limits.SEAL_INTERVAL_S,
) -> int:
    """Run a whole cluster on this machine, each node its own process, with a sample ledger.

    Parameters
    ----------
    data
        Directory of the cluster; started again on the same one, the cluster goes on with its data.
    nodes
        Number of nodes, spread over the zones zone-a, zone-b, zone-c, ….
    port
        Node i serves HTTP on port + i and replicates on port + 100 + i.
    ready_file
        Written (one line of JSON) when the cluster serves, and again when a node was restarted.
    sample
        Fill the sample ledger with a few hundred made-up vehicle registrations.
    insecure
        Let the nodes replicate over plain TCP instead of mutual TLS.
    allow_erasure
        Let POST …/erasures remove the content of revisions for good.
    seal_interval_s
        The longest that a committed block waits for a seal; 0 turns proofs off, for measuring only.
    """
    try:
        return run_demo(
            data=data,
            nodes=nodes,
            port=port,
            ready_file=ready_file,
            sample=sample,
            insecure=insecure,
            allow_erasure=allow_erasure,
            seal_interval_s=seal_interval_s,
        )
    except ConfigInvalid as error:
        return _fail(str(error), EXIT_USAGE)
    except DemoFailed as error:
        return _fail(str(error), EXIT_FAILED)


_certificates = App(name="certificates", help="Make and renew the certificates that nodes show each other.")
app.command(_certificates)

Days = Annotated[int, Parameter(validator=Number(gte=1, lte=limits.CERTIFICATE_VALID_DAYS_MAX))]


@_certificates.command(name="create")
def create_certificates(
    *, cluster: str, out: Path, nodes: str, days: Days = limits.CERTIFICATE_VALID_DAYS
) -> int:
    """Make the authority of a cluster and a certificate for each node, where they are missing.

    Each node needs ca.pem, <id>.pem and <id>-key.pem. Whoever has ca-key.pem can make a member of
    anybody: keep it off the nodes, in a safe place.

    Parameters
    ----------
    cluster
        Name of the cluster, as in the nodes' settings.
    out
        Folder for the certificates and their keys. What is in it already stays as it is.
    nodes
        Names of the nodes: n0,n1,n2.
    days
        How long the nodes' certificates hold.
    """
    return _certify(lambda: certificates.create(out, cluster, _node_ids(cluster, nodes), days), out, "made")


@_certificates.command(name="renew")
def renew_certificates(
    *,
    cluster: str,
    out: Path,
    nodes: str,
    days: Days = limits.CERTIFICATE_VALID_DAYS,
    within_days: Annotated[int, Parameter(validator=Number(gte=0))] = limits.CERTIFICATE_VALID_DAYS_MAX,
) -> int:
    """Give nodes new keys and certificates from the authority that is in the folder.

    A running node takes up new files by itself, on its next connection.

    Parameters
    ----------
    cluster
        Name of the cluster, as in the nodes' settings.
    out
        Folder of the certificates, with ca.pem and ca-key.pem.
    nodes
        Names of the nodes: n0,n1,n2.
    days
        How long the new certificates hold.
    within_days
        Only for nodes whose certificate has no more left than this.
    """
    return _certify(
        lambda: certificates.renew(out, cluster, _node_ids(cluster, nodes), days, within_days=within_days),
        out,
        "renewed",
    )


def _node_ids(cluster: str, nodes: str) -> list[str]:
    """Raises ConfigInvalid."""
    check_identifier("cluster", cluster)
    node_ids = [each.strip() for each in nodes.split(",")]
    for node_id in node_ids:
        check_identifier("nodes", node_id)
    return node_ids


def _certify(work: Callable[[], list[str]], folder: Path, what: str) -> int:
    try:
        done = work()
    except ConfigInvalid as error:
        return _fail(str(error), EXIT_USAGE)
    except certificates.CertificatesFailed as error:
        return _fail(str(error), EXIT_FAILED)
    sys.stdout.write(f"{folder}: {what} {', '.join(done) or 'nothing'}\n")
    return EXIT_OK


@app.command
def fsck(
    directory: Path, /, *, json_output: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """Recompute everything a stopped node has stored from its journal, and name what differs.

    Exits 0 when the data is sound, 1 when something was found, 2 when it cannot be checked.

    Parameters
    ----------
    directory
        The node's data directory, or the directory of a demo: then each of its nodes is checked.
    json_output
        Print the report as JSON, a line for each data directory.
    """
    code = EXIT_OK
    try:
        for each in _data_directories(directory):
            with _progress() as show:
                report = storage_fsck.check(each, show, repairing.fault_of_log)
            _show_report(each, report, as_json=json_output)
            if report.findings:
                code = EXIT_FAILED
    except (NotAStore, StoreInUse, OSError) as error:
        return _fail(str(error), EXIT_USAGE)
    return code


def _data_directories(directory: Path) -> list[Path]:
    """`directory` itself, or where a demo keeps the data of its nodes in it."""
    if storage_fsck.is_store(directory):
        return [directory]
    candidates = [directory / "data", *sorted(directory.glob("*/data"))]
    return [each for each in candidates if storage_fsck.is_store(each)] or [directory]


@app.command
def repair(directory: Path, /, *, force: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Put the damaged database of a stopped node aside. Started again, the node gets another from its peers.

    Nothing is deleted, and the node's keys stay. Do this on fewer than half of the voters only: what
    they lost must be on the others. Exits 0 when it was done, 1 when nothing is damaged, 2 when it cannot
    be done.

    Parameters
    ----------
    directory
        The node's data directory.
    force
        Also when fsck finds nothing, as for a node that stopped because a majority has another journal.
    """
    try:
        with _progress() as show:
            aside, found = repairing.repair(directory, force=force, progress=show)
    except NothingDamaged as error:
        return _fail(str(error), EXIT_FAILED)
    except (NotAStore, StoreInUse, OSError) as error:
        return _fail(str(error), EXIT_USAGE)
    sys.stdout.write(
        f"damaged: {found}\nthe database is now in {aside}; start the node, and delete that once it is back\n"
    )
    return EXIT_OK


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal for whoever calls what this gives: with what is done, how far, of how much."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show


def _show_report(directory: Path, report: storage_fsck.FsckReport, *, as_json: bool) -> None:
    if as_json:
        document = {"directory": str(directory), **report_document(report)}
        sys.stdout.write(json.dumps(document) + "\n")
        return
    for finding in report.findings:
        sys.stdout.write(f"{finding.where}: {finding.what}\n")
    verdict = "sound" if not report.findings else f"{report.findings_total} findings"
    sys.stdout.write(f"{directory}: {report.blocks} blocks, {report.revisions} revisions: {verdict}\n")


def report_document(report: storage_fsck.FsckReport) -> dict[str, Any]:
    """A report of fsck as JSON-like values."""
    return {
        "sound": not report.findings,
        "ledgers": report.ledgers,
        "blocks": report.blocks,
        "revisions": report.revisions,
        "tiles": report.tiles,
        "rows": report.rows,
        "roots": report.roots,
        "findings_total": report.findings_total,
        "findings": [{"where": finding.where, "what": finding.what} for finding in report.findings],
    }


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"steled: {message}\n")
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exits 0, 1 (failed), 2 (wrong use), 70 (data damaged, or an invariant broke) or 74 (the
    disk is full or failed)."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        code = _fail(f"{error}\n(see steled --help)", EXIT_USAGE)
    except ConfigInvalid as error:
        code = _fail(str(error), EXIT_USAGE)
    sys.exit(code if isinstance(code, int) else EXIT_OK)


if __name__ == "__main__":
    main()
