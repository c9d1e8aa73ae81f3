"""The memberships that a log holds, as they follow each other."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from consensus import membership
from consensus.membership import Membership, MembershipInvalid

_INDEX = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class MembershipEntry:
    """A membership, and the index of the entry that brought it."""

    index: int
    membership: Membership


def encode(entry: MembershipEntry) -> bytes:
    """What a log keeps beside its bounds of the membership as of its beginning: index (8) | membership."""
    return _INDEX.pack(entry.index) + membership.encode(entry.membership)


def decode(body: bytes) -> MembershipEntry:
    """Raises MembershipInvalid."""
    if len(body) < _INDEX.size:
        raise MembershipInvalid("a membership that is too short")
    return MembershipEntry(_INDEX.unpack_from(body)[0], membership.decode(body[_INDEX.size :]))


class MembershipHistory:
    """The membership as of a log's beginning, if an entry brought one, and each that a later entry brings."""

    def __init__(self) -> None:
        self._entries: list[MembershipEntry] = []

    def append(self, entry: MembershipEntry) -> None:
        """Once: the log's first entry may be the one that brought the membership as of its beginning."""
        if not self._entries or self._entries[-1].index < entry.index:
            self._entries.append(entry)

    def truncate_from(self, index: int) -> None:
        """A server goes back to the membership before (thesis section 4.1)."""
        while self._entries and self._entries[-1].index >= index:
            self._entries.pop()

    def drop_before(self, index: int) -> None:
        """Keeps what holds from `index` on."""
        while len(self._entries) > 1 and self._entries[1].index <= index:
            del self._entries[0]

    def at(self, index: int) -> MembershipEntry | None:
        """The latest that an entry up to `index` brought; None while it is the bootstrap's."""
        return next((each for each in reversed(self._entries) if each.index <= index), None)

    @property
    def latest(self) -> MembershipEntry | None:
        return self._entries[-1] if self._entries else None
