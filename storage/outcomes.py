"""What `apply` answers for each command. An outcome is the same on every replica."""

from __future__ import annotations

from typing import Literal

import msgspec

RefusalReason = Literal[
    "ledger-unknown",
    "ledger-limit",
    "table-unknown",
    "table-dropped",
    "table-exists",
    "version-mismatch",
    "condition-failed",
    "document-missing",
    "idempotency-key-reused",
    "deletion-protected",
    "revision-unknown",
    "already-erased",
    "erasure-too-large",
    "nothing-to-seal",
]


class Committed(msgspec.Struct, array_like=True, frozen=True, tag="committed"):
    """The transaction is block `seq`; `versions` has one version an operation, in their order. Of an
    erasure they are the versions erased, ascending.

    `repeated` is set when this answers a repeated idempotency key with the first outcome.
    `duplicates` is how many operations at the front of a bulk chunk had been committed before.
    """

    seq: int
    at: int
    tx: bytes
    versions: tuple[int, ...]
    repeated: bool = False
    duplicates: int = 0


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """Nothing was written. `condition` is the index of the one that failed, where there is one;
    `current_version` of a missing document is that of its deletion."""

    reason: RefusalReason
    detail: str
    condition: int | None = None
    current_version: int | None = None


class LedgerChanged(msgspec.Struct, array_like=True, frozen=True, tag="ledger"):
    """A ledger was created (`created`), was there already, had its settings changed, or is gone."""

    created: bool


Outcome = Committed | Refused | LedgerChanged
