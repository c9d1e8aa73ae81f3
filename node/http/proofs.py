"""Proofs as they are answered. The hashing is stele.format's, the tree is the store's."""

from __future__ import annotations

import msgspec

from node.http.services import Services
from storage.view import Revision


class DocumentProof(msgspec.Struct, frozen=True):
    """From a revision to a signed checkpoint: leaf in block, block in journal."""

    header: msgspec.Raw
    leaf: msgspec.Raw
    salt: str
    leaf_index: int
    leaf_path: list[str]
    size: int
    path: list[str]
    checkpoint: str


def document_proof(services: Services, ledger: str, revision: Revision) -> DocumentProof:
    """The proof of one revision, against a checkpoint that covers its block."""
    journal = services.store.journal(ledger)
    block, leaf_path = journal.leaf_path(revision)
    size, note = services.checkpoints.covering(ledger, revision.seq)
    return DocumentProof(
        header=msgspec.Raw(block.header),
        leaf=msgspec.Raw(block.leaves[revision.leaf_index]),
        salt=revision.salt.hex(),
        leaf_index=revision.leaf_index,
        leaf_path=[node.hex() for node in leaf_path],
        size=size,
        path=[node.hex() for node in journal.inclusion(revision.seq, size)],
        checkpoint=note,
    )
