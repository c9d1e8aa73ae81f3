"""Every node holds the same journal, the journal verifies, and every disk is clean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from chaos.checkers.anomaly import Anomaly
from chaos.checkers.journal import Journal, Revision
from stele.verify.errors import VerificationError
from stele.verify.export import verify_export
from stele.verify.note import VerifierKey
from storage import fsck

_FINDINGS_SHOWN_MAX = 3


def check_exports(exports: Mapping[str, Sequence[bytes]], verifier_key: str) -> list[Anomaly]:
    """`exports`: the lines of each node's own export. They differ in their first line, which is signed."""
    found: list[Anomaly] = []
    (first, reference), *others = exports.items()
    for node_id, lines in others:
        if lines[1:] != reference[1:]:
            block = _first_difference(reference, lines)
            found.append(Anomaly("journals are the same bytes", f"{node_id} differs from {first} at {block}"))
    for node_id, lines in exports.items():
        try:
            verify_export(lines, VerifierKey.parse(verifier_key))
        except VerificationError as error:
            found.append(Anomaly("every journal verifies", f"{node_id}: {error}"))
    return found


def _first_difference(one: Sequence[bytes], other: Sequence[bytes]) -> str:
    for line, (left, right) in enumerate(zip(one[1:], other[1:], strict=False)):
        if left != right:
            return f"block {line}"
    return f"its end: {len(other) - 1} blocks, not {len(one) - 1}"


def check_disks(data: Mapping[str, Path], progress: Callable[[str], None]) -> list[Anomaly]:
    """`steled fsck` on the data directory of every node; none of them may run."""
    found: list[Anomaly] = []
    for node_id, directory in data.items():
        progress(f"fsck of {node_id}")
        for finding in fsck.check(directory).findings[:_FINDINGS_SHOWN_MAX]:
            found.append(Anomaly("every disk is clean", f"{node_id}: {finding}"))
    return found


class _Leaf(msgspec.Struct):
    table: str
    key: str
    version: int


class _Revision(msgspec.Struct):
    leaf: _Leaf
    data: dict[str, object] | None = None


class _Header(msgspec.Struct):
    seq: int


class _Block(msgspec.Struct):
    header: _Header
    revisions: list[_Revision] = []


_decode_block = msgspec.json.Decoder(_Block).decode


def journal_of(lines: Sequence[bytes], table: str) -> Journal:
    """The revisions of one table (by its name) in an export that verifies."""
    revisions: list[Revision] = []
    for line in lines[1:]:
        block = _decode_block(line)
        for each in block.revisions:
            if each.leaf.table.partition("@")[0] == table:
                leaf = each.leaf
                revisions.append(Revision(block.header.seq, table, leaf.key, leaf.version, each.data))
    return Journal(revisions)
