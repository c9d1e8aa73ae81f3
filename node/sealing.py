"""The leader seals: at most an interval after the first unsealed block, or as soon as many keys changed.

What is proposed is `storage.commands.Seal`; every replica recomputes what it commits to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from consensus.errors import ConsensusError
from node import limits
from node.applied import AnnouncingMachine
from node.committer import CommitError
from node.stamps import Stamps
from storage.commands import Command, Seal
from storage.errors import NotSealed
from storage.ledger_state import LedgerState
from storage.limits import SEAL_SLICE_KEYS
from storage.outcomes import Outcome
from storage.rows import Sealed
from storage.seal import keys_until_seal
from storage.store import Store

_log = structlog.get_logger("node.sealing")

SEALED_BY = "stele"
"""Who a seal is by: nobody asked for it."""


class Submitter(Protocol):
    """What sealing needs of the committer."""

    @property
    def only_streams(self) -> bool: ...

    def submit_ahead(self, command: Command) -> asyncio.Future[Outcome]: ...


class Sealing:
    """Proposes seals while this node leads; tells anybody when a block is covered by one.

    One seal a ledger is under way at most. With `interval_s` 0 nothing is ever sealed. Belongs to one
    event loop.
    """

    def __init__(
        self,
        store: Store,
        machine: AnnouncingMachine,
        submitter: Submitter,
        stamps: Stamps,
        *,
        leads: Callable[[], bool],
        interval_s: float,
    ) -> None:
        self._store = store
        self._machine = machine
        self._submitter = submitter
        self._stamps = stamps
        self._leads = leads
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._under_way: set[str] = set()
        # Ledgers with enough keys to work ahead of their seals.
        self._ahead: set[str] = set()
        # Sizes that somebody waits to see covered; at most one a ledger.
        self._wanted: dict[str, int] = {}
        self._stopped = interval_s == 0
        machine.on_applied(self._applied)

    async def covering(self, ledger: str, seq: int) -> Sealed:
        """The newest seal, once it covers block `seq`; a leader seals at once.

        Raises LedgerUnknown, and NotSealed when no seal comes in time or sealing is off.
        """
        sealed = self._store.sealed(ledger)
        if sealed is not None and sealed.size > seq:
            return sealed
        if self._stopped:
            raise NotSealed(ledger, seq)
        if self._leads():
            self._wanted[ledger] = max(seq + 1, self._wanted.get(ledger, 0))
            self._propose(ledger)
        try:
            await self._machine.wait_until(lambda: self._covers(ledger, seq), limits.SEAL_TIMEOUT_S)
        finally:
            if ledger not in self._store.machine.ledgers:
                self._wanted.pop(ledger, None)
        sealed = self._store.sealed(ledger)
        if sealed is None or sealed.size <= seq:
            raise NotSealed(ledger, seq)
        return sealed

    def leadership(self, leads: bool) -> None:
        """Tell when this node becomes leader, or is no longer."""
        if leads:
            for state in self._store.machine.ledgers.values():
                self._look(state)
            return
        self._wanted.clear()
        self._cancel_timers()

    def stop(self) -> None:
        """Propose nothing any more."""
        self._stopped = True
        self._cancel_timers()

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _covers(self, ledger: str, seq: int) -> bool:
        sealed = self._store.sealed(ledger)
        return sealed is not None and sealed.size > seq

    def _applied(self) -> None:
        """After every entry: the ledgers that it changed may need a seal."""
        if self._stopped:
            return
        self._plan_ahead()
        if not self._leads():
            return
        for state in self._store.machine.changed:
            self._look(state)

    def _plan_ahead(self) -> None:
        """Every replica works ahead of the seals, leader or not, and lets acknowledgements and answers go
        first: nobody waits for it."""
        for state in self._store.machine.changed:
            if len(state.unsealed) >= SEAL_SLICE_KEYS:
                if not self._ahead:
                    self._loop.call_later(limits.SEAL_AHEAD_PAUSE_S, self._work_ahead)
                self._ahead.add(state.name)

    def _work_ahead(self) -> None:
        ledgers, self._ahead = self._ahead, set()
        if not self._stopped:
            self._store.machine.work_ahead(sorted(ledgers))

    def _look(self, state: LedgerState) -> None:
        """Propose a seal now, or later, or not at all."""
        name = state.name
        sealed_size = 0 if state.sealed is None else state.sealed.size
        wanted = self._wanted.get(name)
        if wanted is not None and sealed_size >= wanted:
            del self._wanted[name]
            wanted = None
        if sealed_size == state.size:
            return
        if wanted is not None or self._has_enough(state):
            self._propose(name)
        elif name not in self._timers and name not in self._under_way:
            self._plan(name)

    def _has_enough(self, state: LedgerState) -> bool:
        return state.unsealed_keys >= keys_until_seal(state, only_streams=self._submitter.only_streams)

    def _plan(self, name: str) -> None:
        self._timers[name] = self._loop.call_later(self._interval_s, self._due, name)

    def _due(self, name: str) -> None:
        del self._timers[name]
        self._propose(name)

    def _propose(self, name: str) -> None:
        state = self._store.machine.ledgers.get(name)
        if self._stopped or state is None or name in self._under_way or not self._leads():
            return
        sealed = state.sealed
        if sealed is not None and sealed.size == state.size:
            return
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        at = self._stamps.now_us()
        size, root = (0, bytes(32)) if sealed is None else (sealed.size, sealed.root)
        command = Seal(name, state.row.id, self._stamps.transaction_id(at), at, SEALED_BY, size, root)
        try:
            submitted = self._submitter.submit_ahead(command)
        except (ConsensusError, CommitError) as error:
            self._failed(name, error)
            return
        self._under_way.add(name)
        submitted.add_done_callback(lambda done: self._done(name, done))

    def _done(self, name: str, submitted: asyncio.Future[Outcome]) -> None:
        self._under_way.discard(name)
        error = None if submitted.cancelled() else submitted.exception()
        if error is not None:
            self._failed(name, error)
            return
        state = self._store.machine.ledgers.get(name)
        if state is not None and not self._stopped and self._leads():
            self._look(state)

    def _failed(self, name: str, error: BaseException) -> None:
        """Nothing is lost: what is unsealed stays so until the next attempt."""
        _log.debug("not sealed", ledger=name, reason=str(error))
        if not self._stopped and self._leads() and name not in self._timers:
            self._plan(name)
