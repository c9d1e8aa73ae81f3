"""Every node holds the same journal, the journal verifies, and every disk is clean."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import zip_longest
from pathlib import Path

import msgspec

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Revision
from stele.verify.checkpoint import parse_checkpoint
from stele.verify.errors import VerificationError
from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from storage import fsck
from storage.errors import StorageError

_FINDINGS_SHOWN_MAX = 3
_FSCK_PROCESSES = 2
"""Each takes a core, and memory for the trees of one node's ledgers."""


def check_exports(exports: Mapping[str, Path], verifier_key: str) -> list[Anomaly]:
    """`exports`: the file of each node's own export. They differ in their first line, which is signed.

    The first one is verified block by block; of those that are the same bytes only the signature is left.
    """
    key = VerifierKey.parse(verifier_key)
    (first, reference), *others = exports.items()
    found: list[Anomaly] = []
    root: bytes | None = None
    try:
        root = _verified(reference, key)
    except VerificationError as error:
        found.append(Anomaly("every journal verifies", f"{first}: {error}"))
    for node_id, path in others:
        difference = _first_difference(reference, path)
        if difference:
            what = f"{node_id} differs from {first} at {difference}"
            found.append(Anomaly("journals are the same bytes", what))
        try:
            signed = _verified(path, key) if difference else _signed_root(path, key)
        except VerificationError as error:
            found.append(Anomaly("every journal verifies", f"{node_id}: {error}"))
        else:
            if not difference and signed != root:
                what = f"{node_id} signed {_hex(signed)} for the journal whose root is {_hex(root)}"
                found.append(Anomaly("every journal verifies", what))
    return found


def _hex(root: bytes | None) -> str:
    return "none" if root is None else root.hex()


def lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        for line in lines:
            yield line.rstrip(b"\n")


def _verified(path: Path, key: VerifierKey) -> bytes | None:
    return verify_export(lines_of(path), key).root


class _Start(msgspec.Struct):
    checkpoint: str = ""


def _signed_root(path: Path, key: VerifierKey) -> bytes:
    start = msgspec.json.decode(next(lines_of(path)), type=_Start)
    return parse_checkpoint(start.checkpoint, key).root


def _first_difference(one: Path, other: Path) -> str:
    """Empty when there is none behind the first line."""
    pairs = zip_longest(lines_of(one), lines_of(other))
    next(pairs, None)
    for line, (left, right) in enumerate(pairs):
        if left is None or right is None:
            return f"its end: block {line}"
        if left != right:
            return f"block {line}"
    return ""


def check_disks(data: Mapping[str, Path], progress: Callable[[str], None]) -> list[Anomaly]:
    """`steled fsck` on the data directory of every node, a few side by side; none of them may run."""
    found: list[Anomaly] = []
    # Not by fork: what a judge has open and under locks is none of theirs.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_FSCK_PROCESSES, mp_context=spawn) as processes:
        for node_id, damage in zip(data, processes.map(_damage, data.values()), strict=True):
            progress(f"fsck of {node_id}: {'damaged' if damage else 'clean'}")
            found += [Anomaly("every disk is clean", f"{node_id}: {what}") for what in damage]
    return found


def _damage(directory: Path) -> list[str]:
    """What fsck says of one directory."""
    try:
        return [str(each) for each in fsck.check(directory).findings[:_FINDINGS_SHOWN_MAX]]
    except (OSError, StorageError) as error:
        return [f"it cannot be read: {error}"]


class _Leaf(msgspec.Struct):
    table: str
    key: str
    version: int


class _Revision(msgspec.Struct):
    leaf: _Leaf
    data: dict[str, object] | None = None


class _Header(msgspec.Struct):
    seq: int
    at: str


class _Block(msgspec.Struct):
    header: _Header
    revisions: list[_Revision] = []


_decode_block = msgspec.json.Decoder(_Block).decode


def revisions_of(export: Path, table: str) -> Iterator[Revision]:
    """The revisions of one table (by its name) in an export that verifies."""
    lines = lines_of(export)
    next(lines, None)
    for line in lines:
        block = _decode_block(line)
        for each in block.revisions:
            if each.leaf.table.partition("@")[0] == table:
                leaf, header = each.leaf, block.header
                yield Revision(header.seq, table, leaf.key, leaf.version, each.data, header.at)
