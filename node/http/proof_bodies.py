"""The JSON of proofs (docs/verifying.md). Headers, leaves and documents are the stored bytes."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a leaf stands in the journal; without the way through its block where the state map names it."""

    header: Raw
    path: str
    index: int | UnsetType = UNSET
    leaf_path: str | UnsetType = UNSET


class PlacedLeaf(msgspec.Struct, frozen=True):
    leaf: Raw
    place: Place


class ShownErasure(msgspec.Struct, frozen=True):
    """The block that erased a revision's content."""

    header: Raw
    info: Raw
    path: str


class ShownRevision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A revision. The document that was asked for stands in the answer, not here."""

    leaf: Raw
    salt: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    place: Place | UnsetType = UNSET
    erasure: ShownErasure | UnsetType = UNSET


class StateProof(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bucket of the state map, and the hashes beside its way to the root, in base64."""

    bucket_depth: int
    rows: str
    siblings: str
    empty: str | UnsetType = UNSET


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is shown of one key."""

    revision: ShownRevision | UnsetType = UNSET
    successor: PlacedLeaf | UnsetType = UNSET
    state: StateProof | UnsetType = UNSET
    older: list[ShownRevision] | UnsetType = UNSET


class Seal(msgspec.Struct, frozen=True):
    header: Raw
    path: str


class DocumentProof(msgspec.Struct, frozen=True):
    """A proof about a document; `table` shows which table bore its name."""

    checkpoint: str
    document: Entry
    table: Entry
    seal: Seal


class BlockProof(msgspec.Struct, frozen=True):
    """The proof that a block stands in the journal."""

    checkpoint: str
    path: str
