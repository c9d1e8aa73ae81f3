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


async def document_proof(services: Services, ledger: str, revision: Revision) -> DocumentProof:
    """The proof of one revision, against the newest checkpoint, once that covers its block.

    Raises NotSealed when no seal comes in time.
    """
    sealed = await services.sealing.covering(ledger, revision.seq)
    journal = services.store.journal(ledger)
    block, leaf_path = journal.leaf_path(revision)
    return DocumentProof(
        header=msgspec.Raw(block.header),
        leaf=msgspec.Raw(block.leaves[revision.leaf_index]),
        salt=revision.salt.hex(),
        leaf_index=revision.leaf_index,
        leaf_path=[node.hex() for node in leaf_path],
        size=sealed.size,
        path=[node.hex() for node in journal.inclusion(revision.seq, sealed.size)],
        checkpoint=services.checkpoints.of_seal(ledger, sealed),
    )
