"""The blocking client: the same calls as Client and Ledger, for code without an event loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType

from stele.client.bridge import Bridged, LoopThread, blocking, blocking_iterator
from stele.client.bulk import BulkLoad, BulkReport, LoadEnded, OnAcknowledged
from stele.client.bulk_lines import Line, chunks_of
from stele.client.client import Client
from stele.client.ledger import Ledger
from stele.client.limits import TIMEOUT_S_DEFAULT
from stele.client.memory import CheckpointMemory
from stele.client.trust import TrustPolicy


class BlockingLedger(Bridged):
    """One ledger; see Ledger for what each call does. Made by BlockingClient.ledger(name)."""

    @property
    def name(self) -> str:
        name: str = self._inner.name
        return name

    info = blocking(Ledger.info)
    create_table = blocking(Ledger.create_table)
    table = blocking(Ledger.table)
    tables = blocking(Ledger.tables)
    drop_table = blocking(Ledger.drop_table)

    put = blocking(Ledger.put)
    add = blocking(Ledger.add)
    get = blocking(Ledger.get)
    delete = blocking(Ledger.delete)
    history = blocking_iterator(Ledger.history)
    scan = blocking_iterator(Ledger.scan)

    transact = blocking(Ledger.transact)
    transact_json = blocking(Ledger.transact_json)
    transaction = blocking(Ledger.transaction)

    erase = blocking(Ledger.erase)
    erasure = blocking(Ledger.erasure)

    receipt = blocking(Ledger.receipt)
    block_receipt = blocking(Ledger.block_receipt)

    block = blocking(Ledger.block)
    blocks = blocking_iterator(Ledger.blocks)
    checkpoint = blocking(Ledger.checkpoint)
    checkpoints = blocking_iterator(Ledger.checkpoints)
    admit = blocking(Ledger.admit)
    verifier_key = blocking(Ledger.verifier_key)
    inclusion = blocking(Ledger.inclusion)
    consistency = blocking(Ledger.consistency)
    export = blocking_iterator(Ledger.export)

    def bulk(
        self,
        lines: Iterable[Line],
        *,
        table: str = "default",
        idempotency_key: str | None = None,
        on_acknowledged: OnAcknowledged | None = None,
    ) -> BulkReport:
        """As Ledger.bulk. `lines` is read in the calling thread and may block.

        `on_acknowledged` is called in the client's thread and must not block.
        """
        load: BulkLoad = self._inner.bulk_load(table, idempotency_key, on_acknowledged)
        report: Future[BulkReport] = self._loop.start(load.run())
        try:
            with contextlib.suppress(LoadEnded):  # then the result says why
                for chunk in chunks_of(lines):
                    self._loop.run(load.offer(chunk))
            self._loop.run(load.finish())
            return report.result()
        except BaseException:
            report.cancel()
            raise


class BlockingClient(Bridged):
    """A cluster, through any of its nodes; see Client for the arguments and calls.

    A private event loop runs in one thread, so any number of threads may share a client. Close it, or use
    it as a context manager.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        trust: TrustPolicy | None = None,
        memory: CheckpointMemory | None = None,
        timeout_s: float = TIMEOUT_S_DEFAULT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        client = Client(endpoints, trust=trust, memory=memory, timeout_s=timeout_s, headers=headers)
        super().__init__(client, LoopThread())

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancels calls of other threads that still wait, closes all connections and ends the thread."""
        self._loop.close(self._inner.close())

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints given, as URLs."""
        endpoints: tuple[str, ...] = self._inner.endpoints
        return endpoints

    def ledger(self, name: str) -> BlockingLedger:
        """A ledger by name; nothing is sent. Raises Invalid for a name no ledger can have."""
        return BlockingLedger(self._inner.ledger(name), self._loop)

    create_ledger = blocking(Client.create_ledger)
    delete_ledger = blocking(Client.delete_ledger)
    ledgers = blocking(Client.ledgers)
    cluster = blocking(Client.cluster)
    add_member = blocking(Client.add_member)
    promote_member = blocking(Client.promote_member)
    remove_member = blocking(Client.remove_member)
    keys = blocking(Client.keys)
    transfer_leadership = blocking(Client.transfer_leadership)
