"""A replica on a disk in memory whose keys have hashes near each other: buckets split, and grow full."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator, Sequence

from chaos.simulation.disk import Fate, SimulatedDisk
from stele.format.state_map import StateProof
from storage import keys
from storage import seal as sealing
from storage.commands import Command, CreateLedger, CreateTable, Operation, Seal, Transact, encode_group
from storage.ledger_state import LedgerState
from storage.machine import LedgerMachine
from storage.scrub import check_bucket_at

LEDGER = "near"
ID = bytes(range(16))
# Of depth 20: the first bucket, its neighbours, the last ones, and keys that are far from all of them.
PREFIXES = [bytes(3), bytes(5), b"\0\0\x10", b"\0\0\x1f\xff", b"\0\1", b"\xff\xff\xff", b"\x40", b""]


def near(unsealed: dict[bytes, bytes]) -> list[bytes]:
    """As `storage.seal._packed`, but of hashes near each other: to find such keys would take too long."""
    packed = []
    for place, row in unsealed.items():
        hashed = hashlib.sha256(place).digest()
        prefix = PREFIXES[hashed[31] % len(PREFIXES)]
        packed.append(prefix + hashed[len(prefix) :] + row[:16] + row[-32:])
    return packed


class Replica:
    """Applies entries, each of some commands, on a disk in memory."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(random.Random(1), lambda synced, deletes: Fate.DONE)
        self._index = 0
        self.machine = LedgerMachine(self.disk)

    @property
    def state(self) -> LedgerState:
        return self.machine.ledgers[LEDGER]

    def apply(self, *commands: Command) -> None:
        self._index += 1
        self.machine.apply(self._index, encode_group(commands))
        assert self.machine.disputes == ()

    def restart(self) -> None:
        self.machine = LedgerMachine(self.disk)

    def buckets(self) -> dict[int, bytes]:
        """As the disk has them, all of them: newest."""
        self.machine.write_back()
        return self.stored()

    def stored(self) -> dict[int, bytes]:
        """What the disk has of them."""
        prefix = keys.of_ledger(b"S", self.state.number)
        stored = self.disk.scan(prefix, keys.end_of(prefix))
        return {int.from_bytes(key[len(prefix) :], "big"): bucket for key, bucket in stored}

    def rows(self) -> list[bytes]:
        """Of the map, as the journal makes them."""
        size = 0 if self.state.sealed is None else self.state.sealed.size
        return near(sealing.revisions_between(self.disk, self.state, 0, size))

    def scrub(self) -> None:
        following: int | None = 0
        while following is not None:
            following = check_bucket_at(self.disk, self.state, following)


def as_json(proof: StateProof) -> dict[str, object]:
    shown, empty = proof.shown_siblings()
    found: dict[str, object] = {
        "bucket_depth": proof.bucket_depth,
        "rows": base64.b64encode(proof.rows).decode(),
        "siblings": base64.b64encode(shown).decode(),
    }
    return found | {"empty": base64.b64encode(empty).decode()} if empty else found


def commands_of(leader: Replica, steps: Sequence[list[int]]) -> Iterator[Command]:
    """What a leader proposes, applied on it; a step without keys is a seal."""
    chosen, at = random.Random(2), 1_790_000_000_000_000
    yield CreateLedger(LEDGER, ID, chosen.randbytes(16), at, "tester", True)
    yield CreateTable(LEDGER, "t", chosen.randbytes(16), at, "tester", bytes(32))
    for step in [*steps, []]:
        tx = chosen.randbytes(16)
        if step:
            puts = tuple(Operation("put", "t", f"k{n}", b"{}", chosen.randbytes(32)) for n in step)
            yield Transact(LEDGER, tx, at, "tester", puts, (), None, None, b"", None)
        else:
            sealed = leader.state.sealed
            size, root = (0, bytes(32)) if sealed is None else (sealed.size, sealed.root)
            yield Seal(LEDGER, ID, tx, at, "tester", size, root)
