"""What an erasure block says: which revisions lost payload and salt, and why.

It stands in the block's information, whose digest is in the header, as canonical JSON (RFC 8785):

    {"by", "erasure": {"key", "reason", "table", "versions": [[first, last], …]}[, "idempotency_key"]}

`table` is the table's id; ranges of versions are inclusive, ascending and as few as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec

from stele.format.canonical import canonicalize
from stele.format.errors import InvalidErasure
from stele.format.limits import INTEGER_MAX

_Version = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]


class Erasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The revisions of one document that an erasure block names."""

    key: str
    reason: str
    table: str
    versions: tuple[tuple[_Version, _Version], ...]

    def __iter__(self) -> Iterator[int]:
        """Every version named, ascending."""
        for first, last in self.versions:
            yield from range(first, last + 1)

    def names(self, version: int) -> bool:
        return any(first <= version <= last for first, last in self.versions)


class ErasureInformation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The information of an erasure block."""

    by: str
    erasure: Erasure
    idempotency_key: str | None = None


_decode = msgspec.json.Decoder(ErasureInformation).decode


def version_ranges(versions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The fewest inclusive ranges that hold exactly these versions, ascending."""
    ranges: list[tuple[int, int]] = []
    for version in sorted(set(versions)):
        if ranges and ranges[-1][1] == version - 1:
            ranges[-1] = (ranges[-1][0], version)
        else:
            ranges.append((version, version))
    return tuple(ranges)


def erasure_information_bytes(by: str, erasure: Erasure, idempotency_key: str | None = None) -> bytes:
    """The information of an erasure block."""
    members: dict[str, Any] = {"by": by, "erasure": msgspec.to_builtins(erasure)}
    if idempotency_key is not None:
        members["idempotency_key"] = idempotency_key
    return canonicalize(members)


def parse_erasure(information: bytes) -> Erasure:
    """What the information of an erasure block names. Raises InvalidErasure."""
    try:
        erasure = _decode(information).erasure
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidErasure(f"the information of an erasure: {error}") from None
    # Compared range by range: a forged one may be as wide as a version can be high.
    before = -2
    for first, last in erasure.versions:
        if not before + 1 < first <= last:
            raise InvalidErasure("an erasure's ranges of versions must ascend and not touch")
        before = last
    if not erasure.versions:
        raise InvalidErasure("an erasure names at least one version")
    return erasure
