"""Which state a read shows: the present of the whole cluster, or what this node has applied."""

from __future__ import annotations

import asyncio
from typing import Protocol

from consensus.errors import NotLeader, ReadFailed
from node import limits
from node.applied import AnnouncingMachine
from storage.store import Store


class NotCaughtUp(Exception):
    """This node did not get the block that was asked for in time."""

    def __init__(self, min_seq: int, seq: int | None) -> None:
        has = "nothing of the ledger" if seq is None else f"blocks up to {seq}"
        super().__init__(f"block {min_seq} was asked for, and this node has {has}")


class Reader(Protocol):
    """What reads need of a replica (consensus.replica.Replica)."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader_id(self) -> str | None: ...

    async def read_barrier(self) -> None: ...


class Reads:
    """The store, at the freshness that a reader asks for."""

    def __init__(self, reader: Reader, store: Store, machine: AnnouncingMachine) -> None:
        self._reader = reader
        self._store = store
        self._machine = machine

    async def strong(self) -> None:
        """Return when the store shows everything that was acknowledged before the call (ReadIndex).

        The replica lets all reads that wait share one confirmation round. Raises NotLeader or ReadFailed.
        """
        if not self._reader.is_leader:
            raise NotLeader(self._reader.leader_id)
        try:
            async with asyncio.timeout(limits.READ_TIMEOUT_S):
                await self._reader.read_barrier()
        except TimeoutError as error:
            raise ReadFailed(f"leadership was not confirmed within {limits.READ_TIMEOUT_S:g} s") from error

    async def at_least(self, ledger: str, min_seq: int) -> None:
        """Return when this node has applied block `min_seq`. Raises NotCaughtUp."""
        if self._has(ledger, min_seq):
            return
        if not await self._machine.wait_until(lambda: self._has(ledger, min_seq), limits.MIN_SEQ_TIMEOUT_S):
            info = self._store.ledger(ledger)
            raise NotCaughtUp(min_seq, None if info is None else info.size - 1)

    def _has(self, ledger: str, seq: int) -> bool:
        info = self._store.ledger(ledger)
        return info is not None and info.size > seq
