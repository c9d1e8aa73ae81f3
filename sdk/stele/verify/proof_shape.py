"""The form of proofs: what a server answers with `proof=true`, and what a receipt keeps.

A proof leads from a document to a signed checkpoint. Single hashes are lowercase hex; several stand one
after another in base64, for their size. Members that are absent are absent, never null.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stele.verify.limits import HISTORY_REVISIONS_MAX
from stele.verify.shape import Count, Header, Information, Leaf, Path, StateProof


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """Where a revision leaf stands: `index` in its block, whose header leads on to the checkpoint.

    `index` and `leaf_path` may be absent where a state proof names both the leaf and the block.
    """

    header: Header
    path: Path
    index: Count | UnsetType = UNSET
    leaf_path: Path | UnsetType = UNSET


class PlacedLeaf(msgspec.Struct, forbid_unknown_fields=True):
    """A revision of which only the leaf is shown."""

    leaf: Leaf
    place: Place


class ShownErasure(msgspec.Struct, forbid_unknown_fields=True):
    """The erasure block that took a revision's content: what its header commits to names the revision."""

    header: Header
    info: Information
    path: Path


class ShownRevision(msgspec.Struct, forbid_unknown_fields=True):
    """A revision. Without `salt` its content was erased, which `erasure` shows, or is withheld; `data`
    belongs to a put.

    `place` may be absent where a state proof already names the leaf.
    """

    leaf: Leaf
    salt: str | UnsetType = UNSET
    data: dict[str, object] | UnsetType = UNSET
    place: Place | UnsetType = UNSET
    erasure: ShownErasure | UnsetType = UNSET


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """What is shown of one key: a revision, what comes after it, and what came before.

    `state` shows that it is the newest one, `successor` that the next one came later. Without `revision`
    they show that there was none. `older` goes from the revision before it down to version 0.
    """

    revision: ShownRevision | UnsetType = UNSET
    successor: PlacedLeaf | UnsetType = UNSET
    state: StateProof | UnsetType = UNSET
    older: Annotated[list[ShownRevision], Meta(max_length=HISTORY_REVISIONS_MAX)] | UnsetType = UNSET


class Seal(msgspec.Struct, forbid_unknown_fields=True):
    """The last block of the checkpoint: a seal, which commits to the state root."""

    header: Header
    path: Path


class DocumentProof(msgspec.Struct, forbid_unknown_fields=True):
    """The proof about a document. `table` shows which table bore the name that was asked for."""

    checkpoint: str
    document: Entry
    table: Entry
    seal: Seal | UnsetType = UNSET


class BlockProof(msgspec.Struct, forbid_unknown_fields=True):
    """The proof that a block stands in the journal."""

    checkpoint: str
    path: Path


class BlockRevision(msgspec.Struct, forbid_unknown_fields=True):
    """A revision of a block. Without `salt` and `data` its content was erased or is withheld; that it was
    `erased`, and by which block, is what the server says."""

    leaf: Leaf
    salt: str | UnsetType = UNSET
    data: dict[str, object] | UnsetType = UNSET
    erased: Count | UnsetType = UNSET


class ShownBlock(msgspec.Struct, forbid_unknown_fields=True):
    """A block with what it commits to."""

    header: Header
    info: Information
    revisions: list[BlockRevision]
