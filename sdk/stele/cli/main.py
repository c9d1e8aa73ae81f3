"""The `stele` command: puts the commands together and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import stamina.instrumentation
from cyclopts import App, CycloptsError

from stele import __version__
from stele.cli.audit import audit
from stele.cli.cluster import cluster_app
from stele.cli.documents import document_app
from stele.cli.drill import drill_app
from stele.cli.erasures import erasure_app
from stele.cli.exits import Exit, InputError, UsageError, complain, describe, exit_of
from stele.cli.journal import block_app, checkpoint_app, export, proof_app
from stele.cli.ledgers import ledger_app, table_app
from stele.cli.policies import policy_app
from stele.cli.receipts import receipt_app
from stele.cli.transactions import bulk, transact, transaction_app
from stele.cli.verification import verify
from stele.cli.witness import witness
from stele.client import SteleError
from stele.verify.errors import VerificationError

HELP = """The command line of Stele, a ledger database whose every answer can be proved.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 refused by the state of the ledger, 5 unavailable,
6 VERIFICATION FAILED, 130 interrupted.
"""


def build_app() -> App:
    """All commands, noun first."""
    app = App(
        name="stele",
        help=HELP,
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for group in (
        ledger_app,
        table_app,
        document_app,
        transaction_app,
        erasure_app,
        block_app,
        checkpoint_app,
        proof_app,
        receipt_app,
        policy_app,
        cluster_app,
        drill_app,
    ):
        app.command(group)
    for command in (transact, bulk, export, verify, audit, witness):
        app.command(command)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code. Raises KeyboardInterrupt."""
    # Retries are the client's business; a log line of each would stand among the results.
    stamina.instrumentation.set_on_retry_hooks([])
    try:
        result = build_app()(arguments)
        sys.stdout.flush()
    except CycloptsError as error:
        complain(" ".join(str(error).split()))
        complain("see --help")
        return Exit.USAGE
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (SteleError, VerificationError, InputError, UsageError) as error:
        complain(describe(error))
        return exit_of(error)
    return result if isinstance(result, int) else Exit.OK


def main() -> None:
    """The console script."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        complain("interrupted")
        # Ends as the signal would have ended it, so that the shell's loop around it ends too, and without
        # waiting for a thread that still reads.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    else:
        sys.exit(code)


if __name__ == "__main__":
    main()
