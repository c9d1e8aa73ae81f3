"""Erased revisions: shown without salt and data, and accepted only because a later block names them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from stele.verify import shape
from stele.verify.errors import BrokenChain, Malformed, Mismatch


class Erasures:
    """Matches revisions that are shown as erased with the erasure blocks that follow.

    It keeps an entry for each erased revision until its erasure block comes.
    """

    def __init__(self) -> None:
        self.erased = 0
        """Revisions shown as erased so far."""
        # erasure block -> (table id, key) -> versions that say they were erased by it.
        self._awaited: dict[int, dict[tuple[str, str], list[int]]] = {}

    def awaited_claims(self) -> list[tuple[int, str, str, list[int]]]:
        """(erasure block, table id, key, versions) of erased revisions whose erasure block has not come."""
        return [
            (seq, table, key, versions)
            for seq, places in self._awaited.items()
            for (table, key), versions in places.items()
        ]

    def restore(self, erased: int, claims: Sequence[tuple[int, str, str, list[int]]]) -> None:
        """Take up what `erased` and `awaited_claims` said."""
        self.erased = erased
        for seq, table, key, versions in claims:
            self._awaited.setdefault(seq, {})[table, key] = versions

    @property
    def awaited(self) -> int:
        """Erased revisions whose erasure block has not come."""
        return sum(len(versions) for places in self._awaited.values() for versions in places.values())

    def claim(self, revision: shape.Revision, seq: int, index: int) -> None:
        """Take in a revision of block `seq` that is shown as erased; raise VerificationError."""
        if revision.salt is not UNSET or revision.data is not UNSET:
            raise Malformed(f"block {seq}: revision {index}: erased, and yet with salt or data")
        if not isinstance(revision.erased, int) or revision.erased <= seq:
            raise BrokenChain(
                f"block {seq}: revision {index}: erased", expected=f"> {seq}", found=revision.erased
            )
        places = self._awaited.setdefault(revision.erased, {})
        places.setdefault((revision.leaf.table, revision.leaf.key), []).append(revision.leaf.version)
        self.erased += 1

    def check_block(self, block: shape.Block, seq: int) -> None:
        """Revisions that name block `seq` as their erasure must be named by it; raise VerificationError."""
        erasure = block.info.erasure
        if (block.header.kind == "erasure") != isinstance(erasure, shape.Erasure):
            raise Malformed(f"block {seq}: an erasure belongs to the information of its own kind of block")
        claims = self._awaited.pop(seq, {})
        if not isinstance(erasure, shape.Erasure):
            if claims:
                raise Mismatch(f"block {seq}: kind", expected="erasure", found=block.header.kind)
            return
        if block.header.revision_count:
            raise Mismatch(f"block {seq}: revision_count", expected=0, found=block.header.revision_count)
        _check_ranges(erasure, seq)
        for (table, key), versions in claims.items():
            for version in versions:
                check_named(erasure, table, key, version, seq)


def _check_ranges(erasure: shape.Erasure, seq: int) -> None:
    before = -2
    for first, last in erasure.versions:
        if not before + 1 < first <= last:
            raise Malformed(f"block {seq}: ranges of versions must ascend and not touch")
        before = last
    if not erasure.versions or not erasure.reason:
        raise Malformed(f"block {seq}: an erasure without versions or reason")


def is_named(erasure: shape.Erasure, table: str, key: str, version: int) -> bool:
    named = any(first <= version <= last for first, last in erasure.versions)
    return named and (erasure.table, erasure.key) == (table, key)


def check_named(erasure: shape.Erasure, table: str, key: str, version: int, seq: int) -> None:
    if not is_named(erasure, table, key, version):
        raise Mismatch(
            f"block {seq}: what it erased",
            expected=f"version {version} of {key!r} in {table}",
            found=f"{erasure.versions} of {erasure.key!r} in {erasure.table}",
        )
