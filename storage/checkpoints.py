"""What a node keeps for ever beside the journal: checkpoints, cosignatures, and contradictions to them.

These rows are the node's own: apply neither reads nor writes them. A checkpoint's row is written and synced
before anything that is signed over it leaves the node (docs/adr/0010-cosigned-checkpoints.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from storage import keys, rows
from storage.disk import Disk


class Cosignature(NamedTuple):
    """A signature line of one key, by a ledger's number and the size of the checkpoint it stands on."""

    number: int
    size: int
    key_id: bytes
    name: str
    line: str


class Contradiction(NamedTuple):
    """A valid cosignature over a root of `size` that is not the journal's own: evidence, kept for ever."""

    number: int
    size: int
    key_id: bytes
    name: str
    root: bytes
    line: str


class CheckpointRows:
    """The rows, by a ledger's number (LedgerInfo.number). Methods raise `StorageFailed`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def keep(self, checkpoints: Iterable[tuple[int, int, str]], *, sync: bool = True) -> None:
        """(number, size, note signed by the log) each; on disk when this returns, or, without `sync`, once
        the store is synced."""
        batch = self._disk.batch()
        for number, size, note in checkpoints:
            batch.put(keys.checkpoint(number, size), note.encode())
        self._disk.write(batch, sync=sync)

    def note(self, number: int, size: int) -> str | None:
        """The checkpoint that was signed for `size`, if one was."""
        note = self._disk.get(keys.checkpoint(number, size))
        return None if note is None else note.decode()

    def listed(self, number: int, from_size: int, limit: int) -> list[tuple[int, str]]:
        """(size, note) of up to `limit` checkpoints from `from_size` on, smallest first."""
        found: list[tuple[int, str]] = []
        end = keys.end_of(keys.of_ledger(b"K", number))
        for key, value in self._disk.scan(keys.checkpoint(number, from_size), end):
            if len(found) >= limit:
                break
            found.append((keys.size_of(key), value.decode()))
        return found

    def keep_cosignatures(self, cosignatures: Iterable[Cosignature]) -> None:
        """Not synced: what is lost with the power is made or asked for again."""
        batch = self._disk.batch()
        for each in cosignatures:
            key = keys.cosignature(each.number, each.size, each.key_id, each.name)
            batch.put(key, each.line.encode())
        self._disk.write(batch)

    def cosignatures(self, number: int, size: int) -> list[Cosignature]:
        """What was gathered for the checkpoint of `size`, in the order of names."""
        prefix = keys.cosignatures_of(number, size)
        found = [
            Cosignature(number, size, *keys.cosigner_of(key), value.decode())
            for key, value in self._disk.scan(prefix, keys.end_of(prefix))
        ]
        return sorted(found, key=lambda each: (each.name, each.key_id))

    def has_cosignature(self, number: int, size: int, key_id: bytes, name: str) -> bool:
        return self._disk.get(keys.cosignature(number, size, key_id, name)) is not None

    def keep_contradiction(self, found: Contradiction) -> None:
        """On disk when this returns. One a size and key is enough."""
        batch = self._disk.batch()
        key = keys.contradiction(found.number, found.size, found.key_id, found.name)
        batch.put(key, found.root + found.line.encode())
        self._disk.write(batch, sync=True)

    def contradictions(self, number: int, limit: int) -> list[Contradiction]:
        """Up to `limit` of them, smallest size first."""
        prefix = keys.of_ledger(b"V", number)
        found: list[Contradiction] = []
        for key, value in self._disk.scan(prefix, keys.end_of(prefix)):
            if len(found) >= limit:
                break
            key_id, name = keys.cosigner_of(key)
            root, line = value[: rows.ROOT_SIZE_BYTES], value[rows.ROOT_SIZE_BYTES :].decode()
            found.append(Contradiction(number, keys.size_of(key), key_id, name, root, line))
        return found

    def name_was_used(self, ledger: str) -> bool:
        """Whether a ledger of this name was deleted before: the present one needs an origin of its own."""
        return self._disk.get(keys.dropped_ledger(ledger)) is not None

    def cosigner_keys(self) -> str | None:
        """The verifier keys, a line each, that this node cosigns with; None before it has any."""
        stored = self._disk.get(keys.COSIGNER)
        return None if stored is None else stored.decode()

    def keep_cosigner_keys(self, verifier_keys: str) -> None:
        """On disk when this returns."""
        batch = self._disk.batch()
        batch.put(keys.COSIGNER, verifier_keys.encode())
        self._disk.write(batch, sync=True)
