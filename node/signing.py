"""Everything by which a node signs: keys, checkpoints, cosignatures, and the tasks that drive them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from consensus.replica import Replica
from node import limits
from node.applied import AnnouncingMachine
from node.checkpoints import Checkpoints, Demand, LogKeyMissing
from node.committer import Committer
from node.config import Config
from node.cosigning import Cosigning
from node.key_journal import KeyJournal
from node.key_publishing import KeyPublishing
from node.own_keys import LogKeys, ReplicaKeys
from node.reads import Reads
from node.stamps import Stamps
from storage.rows import Sealed
from storage.store import Store


class Signing:
    """Begins with `start`, ends with `stop`. `on_fatal` is told when the store fails or is at odds."""

    def __init__(
        self,
        config: Config,
        store: Store,
        replica: Replica,
        machine: AnnouncingMachine,
        committer: Committer,
        reads: Reads,
        stamps: Stamps,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """Raises SigningKeyInvalid."""
        log_keys = LogKeys(config.log_key_file)
        name = f"{config.cluster}/{config.node_id}"
        own = ReplicaKeys(name, config.cosigner_key_path, store.checkpoints)
        self.keys = KeyJournal(store, committer, reads, stamps)
        self.checkpoints = Checkpoints(store, config.cluster, log_keys, self.keys.history)
        self.publishing = KeyPublishing(
            config.cluster, config.node_id, self.keys, own, log_keys, replica, machine
        )
        self.cosigning = Cosigning(
            config.node_id,
            store,
            self.checkpoints,
            self.keys,
            own,
            notify=replica.notify,
            monotonic_s=time.monotonic,
            time_s=time.time,
            on_statement=self.publishing.stated,
            voters=lambda: replica.membership.voter_ids,
        )
        self._on_fatal = on_fatal
        self._sync = store.raft_rows.sync
        self._syncing: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._work = asyncio.Event()
        self._changed: set[asyncio.Future[None]] = set()
        machine.on_applied(self._applied)
        replica.on_notice(self._notice)
        self.cosigning.on_change(self.wake)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._guarded(run)) for run in (self._cosign, self.publishing.run)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        # A thread that is at the store is waited for, before the store is closed.
        at_the_store = [] if self._syncing is None else [self._syncing]
        await asyncio.gather(*self._tasks, *at_the_store, return_exceptions=True)
        await self.publishing.stop()

    def alarms(self) -> list[str]:
        """What somebody has to look at, although the node goes on."""
        about_keys = self.publishing.alarm()
        cosigning = self.cosigning
        return [
            *cosigning.disputes.alarms(),
            *cosigning.contradictions.alarms(),
            *([about_keys] if about_keys else []),
        ]

    def split_view(self) -> str | None:
        """Why this node must not count as ready: it cannot show that a majority shares its journal."""
        disputes = self.cosigning.disputes.alarms()
        return disputes[0] if disputes else self.cosigning.contradictions.outvoted()

    async def cosigned(self, ledger: str, demand: Demand, from_size: int) -> str | None:
        """The newest checkpoint from `from_size` on with these cosignatures, once there is one; None when
        there is none in time. Raises LedgerUnknown."""
        try:
            async with asyncio.timeout(limits.COSIGNATURES_TIMEOUT_S):
                while (note := self.checkpoints.cosigned(ledger, demand, from_size)) is None:
                    await self._next_change()
        except TimeoutError:
            return None
        return note

    async def _next_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    async def cosigned_seal(
        self, ledger: str, sealed: Sealed, demand: Demand, timeout_s: float
    ) -> str | None:
        """The checkpoint right after this very seal, once all those have cosigned it; None when they have not
        in time. Raises LedgerUnknown."""
        note = self.checkpoints.of_seal(ledger, sealed)
        try:
            async with asyncio.timeout(timeout_s):
                while not self.checkpoints.fulfils(ledger, sealed.size, demand):
                    await self._next_change()
                    note = self.checkpoints.of_seal(ledger, sealed)
        except TimeoutError:
            return None
        return note

    def _applied(self) -> None:
        self.cosigning.applied()
        self._work.set()

    def _notice(self, peer_id: str, body: bytes) -> None:
        self.cosigning.take(peer_id, body)
        self._work.set()

    def wake(self) -> None:
        """A cosignature was kept: whoever waits for some looks again."""
        for future in self._changed:
            if not future.done():
                future.set_result(None)

    async def _cosign(self) -> None:
        """A round after what came in the meantime, with a pause, so that one sync serves many seals."""
        while True:
            self._work.clear()
            await self._sign_beside()
            self.cosigning.round()
            if not self.cosigning.idle:
                self._work.set()
            await asyncio.sleep(limits.COSIGNING_PAUSE_S)
            try:
                async with asyncio.timeout(limits.COSIGNING_IDLE_S):
                    await self._work.wait()
            except TimeoutError:
                continue

    async def _sign_beside(self) -> None:
        """The log's signatures first: only they are on disk before the round goes on, and that takes time
        which the event loop has better uses for."""
        try:
            await self.checkpoints.sign_beside(self.cosigning.newly_sealed(), self._synced)
        except LogKeyMissing:
            return  # The round finds out, too.

    async def _synced(self) -> None:
        self._syncing = asyncio.ensure_future(asyncio.to_thread(self._sync))
        await asyncio.shield(self._syncing)

    async def _guarded(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:
            self._on_fatal(error)
