"""stele block …, stele checkpoint …, stele proof …, stele export"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from cyclopts import App, Parameter

from stele.cli.connection import CONNECTION, OUTPUT, Connection, Output
from stele.cli.exits import Exit, InputError, complain
from stele.cli.output import item_of
from stele.cli.progress import progress_bar
from stele.client import SignedCheckpoint
from stele.client.export import ExportHead
from stele.client.memory import state_path
from stele.verify.merkle import verify_consistency, verify_inclusion

BLOCK_COLUMNS = ("seq", "kind", "at", "revision_count", "tx")

block_app = App(name="block", help="Look at the blocks of a journal.")
checkpoint_app = App(name="checkpoint", help="Signed checkpoints of a journal.")
proof_app = App(name="proof", help="Merkle proofs of a journal.")


@block_app.command(name="show")
def show_block(
    ledger: str, seq: int, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT
) -> None:
    """Show one block: header, information and revisions."""
    with connection.open() as client:
        output.printer().item(client.ledger(ledger).block(seq))


@block_app.command(name="list")
def list_blocks(
    ledger: str,
    /,
    *,
    from_seq: Annotated[int, Parameter(name="--from")] = 0,
    limit: int | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """List blocks in order; JSON has them whole.

    Parameters
    ----------
    from_seq
        Begin at this block.
    limit
        At most so many blocks.
    """
    with connection.open() as client:
        blocks = client.ledger(ledger).blocks(from_seq, limit=limit)
        items = blocks if output.format == "json" else (block["header"] for block in blocks)
        output.printer().items(items, BLOCK_COLUMNS)


@checkpoint_app.command(name="show")
def show_checkpoint(ledger: str, /, *, connection: Connection = CONNECTION, output: Output = OUTPUT) -> None:
    """Show the newest checkpoint. With --verifier-key it is verified and remembered.

    With -o table and standard output piped, the signed note itself is written.
    """
    with connection.open() as client:
        checkpoint = client.ledger(ledger).checkpoint()
    if output.format == "table" and not sys.stdout.isatty():
        sys.stdout.write(checkpoint.note)
    else:
        output.printer().item(_checkpoint_item(checkpoint))


@checkpoint_app.command(name="forget")
def forget_checkpoint(ledger: str, /, *, connection: Connection = CONNECTION) -> int:
    """Forget what is remembered of a ledger: after a cluster was set up anew under the same address."""
    with connection.open() as client:
        forgotten = connection.memory().forget(client.endpoints, ledger, connection.verifier_key)
    if not forgotten:
        complain(f"nothing is remembered of ledger {ledger!r} at {connection.endpoints} in {state_path()}")
        return Exit.NOT_FOUND
    return Exit.OK


@proof_app.command(name="inclusion")
def prove_inclusion(
    ledger: str,
    seq: int,
    /,
    *,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Prove that a block is in the journal of the newest checkpoint, and check the proof."""
    with connection.open() as client:
        journal = client.ledger(ledger)
        checkpoint = journal.checkpoint()
        proof = journal.inclusion(seq, checkpoint.size)
    path = [_hash(text) for text in proof.path]
    verify_inclusion(_hash(proof.leaf_hash), seq, checkpoint.size, path, checkpoint.root)
    output.printer().item(item_of(proof) | {"checkpoint": checkpoint.note, "signed": checkpoint.verified})


@proof_app.command(name="consistency")
def prove_consistency(
    ledger: str,
    from_size: int,
    to_size: int | None = None,
    /,
    *,
    root: str | None = None,
    connection: Connection = CONNECTION,
    output: Output = OUTPUT,
) -> None:
    """Prove that the journal of one size is the beginning of that of a later one.

    Parameters
    ----------
    from_size
        The earlier size, in blocks.
    to_size
        The later size; by default that of the newest checkpoint.
    root
        The root at the earlier size, in hex, as you know it: the proof is then checked against the newest
        checkpoint.
    """
    with connection.open() as client:
        journal = client.ledger(ledger)
        if to_size is not None:
            output.printer().item(item_of(journal.consistency(from_size, to_size)))
            return
        checkpoint = journal.checkpoint()
        proof = journal.consistency(from_size, checkpoint.size)
    if root is not None:
        path = [_hash(text) for text in proof.path]
        verify_consistency(from_size, checkpoint.size, path, _hash(root), checkpoint.root)
    output.printer().item(item_of(proof) | {"checkpoint": checkpoint.note, "signed": checkpoint.verified})


def export(
    ledger: str,
    /,
    *,
    file: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
    from_seq: Annotated[int, Parameter(name="--from")] = 0,
    to_seq: Annotated[int | None, Parameter(name="--to")] = None,
    connection: Connection = CONNECTION,
) -> None:
    """Write the journal as NDJSON, which `stele verify --file` checks offline.

    Parameters
    ----------
    file
        Where to: complete or not at all; .gz is compressed. By default standard output.
    from_seq
        The first block.
    to_seq
        The block to end before; by default all there are now.
    """
    with connection.open() as client, destination(file) as out:
        lines = client.ledger(ledger).export(from_seq, to_seq)
        first = next(lines)
        head = ExportHead.parse(first)
        out.write(first + b"\n")
        with progress_bar("exporting", "blocks", total=head.to_seq - head.from_seq) as bar:
            for number, line in enumerate(lines, start=1):
                out.write(line + b"\n")
                bar.update(number, completed=number)


File = Annotated[str | None, Parameter(name=["--output", "-o"])]


class Writable(Protocol):
    """What an export is written to."""

    def write(self, data: bytes, /) -> int: ...


@contextmanager
def destination(path: str | None) -> Iterator[Writable]:
    """A file that appears under its name only when it is complete and on disk, or standard output."""
    if path is None or path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = path + ".part"
    try:
        with open(partial, "wb") as file:
            if path.endswith(".gz"):
                with gzip.open(file, "wb") as packed:
                    yield packed
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def _checkpoint_item(checkpoint: SignedCheckpoint) -> dict[str, Any]:
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "verified": checkpoint.verified,
        "note": checkpoint.note,
    }


def _hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError(f"{text[:80]!r} is no hash in hex") from error
