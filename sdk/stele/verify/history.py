"""Following every document's revisions through a journal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from stele.verify.errors import BrokenChain
from stele.verify.limits import SEQ_MAX
from stele.verify.shape import Leaf

CATALOGUE: Final = "$tables@0"
"""The table of tables, whose documents stand under the tables' names."""

_VERSION_UNIT = SEQ_MAX + 1
_created_seq = re.compile("[A-Za-z][A-Za-z0-9_-]{0,62}@(0|[1-9][0-9]{0,15})").fullmatch


class History:
    """Checks that versions of a key count up by one and that `prev_seq` names the block before.

    It keeps one entry a key ever written: 65 to 130 bytes (a dict's growth) and the key's own text, so
    10 million keys of 20 characters take about 1.5 GB.
    """

    def __init__(self, first_seq: int) -> None:
        self._first_seq = first_seq
        # table id -> key -> version * 2**53 + seq of its newest revision: one int costs less than a pair.
        self._newest: dict[str, dict[str, int]] = {}
        self._tables = {CATALOGUE}

    @property
    def keys(self) -> int:
        """How many keys were written so far."""
        return sum(len(keys) for keys in self._newest.values())

    @property
    def tables(self) -> list[str]:
        """The id of every table there ever was."""
        return sorted(self._tables)

    def newest(self) -> Iterator[tuple[str, str, int, int]]:
        """(table id, key, version, block) of the newest revision of every key."""
        for table, keys in self._newest.items():
            for key, packed in keys.items():
                yield table, key, *divmod(packed, _VERSION_UNIT)

    def restore(self, tables: Iterable[str]) -> None:
        """Take up the tables of a journal that was read before; its keys come by `restore_key`."""
        self._tables.update(tables)

    def restore_key(self, table: str, key: str, version: int, seq: int) -> None:
        self._newest.setdefault(table, {})[key] = version * _VERSION_UNIT + seq

    def append(self, leaf: Leaf, seq: int) -> None:
        """Take in the next revision, which stands in block `seq`; raise BrokenChain."""
        if leaf.table == CATALOGUE:
            self._tables.add(f"{leaf.key}@{seq}")
        keys = self._newest.get(leaf.table)
        if keys is None:
            self._check_table(leaf.table, seq)
            keys = self._newest[leaf.table] = {}
        before = keys.get(leaf.key)
        if before is None:
            self._check_first(leaf, seq)
        else:
            version, prev_seq = divmod(before, _VERSION_UNIT)
            if leaf.version != version + 1:
                raise BrokenChain(_where(leaf, seq, "version"), expected=version + 1, found=leaf.version)
            if leaf.prev_seq != prev_seq:
                raise BrokenChain(_where(leaf, seq, "prev_seq"), expected=prev_seq, found=leaf.prev_seq)
        keys[leaf.key] = leaf.version * _VERSION_UNIT + seq

    def _check_table(self, table: str, seq: int) -> None:
        """A table is named after the block that created it, so that block must hold its catalogue entry."""
        if table in self._tables:
            return
        created = _created_seq(table)
        if created is not None and int(created[1]) < self._first_seq:
            return  # created before the first block shown
        raise BrokenChain(f"block {seq}: table {table[:96]!r} was created by no block")

    def _check_first(self, leaf: Leaf, seq: int) -> None:
        """The first revision seen of a key is its version 0, unless earlier blocks were left out."""
        if leaf.version != 0 and (leaf.prev_seq is None or leaf.prev_seq >= self._first_seq):
            raise BrokenChain(_where(leaf, seq, "version"), expected=0, found=leaf.version)


def _where(leaf: Leaf, seq: int, what: str) -> str:
    return f"block {seq}: {what} of {leaf.key!r} in {leaf.table}"
