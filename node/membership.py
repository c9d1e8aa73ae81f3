"""The cluster's membership as it changes: told to the log, counted, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from consensus.membership import Membership
from node import limits

_log = structlog.get_logger("node")


class ChangeInProgress(Exception):
    """A change of the membership was not committed in time."""

    def __init__(self) -> None:
        super().__init__("another change of the membership is not committed yet")


class Changing(Protocol):
    """What is needed of a replica (consensus.replica.Replica)."""

    @property
    def membership(self) -> Membership: ...

    @property
    def membership_committed(self) -> bool: ...

    def on_membership(self, callback: Callable[[Membership], None]) -> None: ...


class MembershipWatch:
    """`on_change` is called for each membership that comes into use."""

    def __init__(self, replica: Changing, on_change: Callable[[], None]) -> None:
        self._replica = replica
        self._on_change = on_change
        self._known = Membership()
        self._told = asyncio.Event()

    def start(self) -> None:
        """Once the replica has started."""
        self._known = self._replica.membership
        self._replica.on_membership(self._changed)

    def _changed(self, membership: Membership) -> None:
        """Also when the one that is in use already turns out to be committed."""
        self._told.set()
        if membership != self._known:
            self._known = membership
            self._on_change()
        _log.info(
            "membership",
            voters=[each.id for each in membership.voters],
            learners=[each.id for each in membership.learners],
            committed=self._replica.membership_committed,
        )

    async def settled(self) -> Membership:
        """The membership once it is committed: before, what it says may still be taken back.

        The leader makes changes of its own, such as when it learns whose disk is whose, so waiting a moment
        spares callers a refusal. Raises ChangeInProgress.
        """
        try:
            async with asyncio.timeout(limits.MEMBERSHIP_SETTLE_TIMEOUT_S):
                while not self._replica.membership_committed:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError as error:
            raise ChangeInProgress from error
        return self._replica.membership
