"""Which replica is in the wrong when two have different journals: the one that no majority has cosigned with.

A seal names its proposer's last one (storage/seal.py). A replica that has another there cannot know whose is
right. If it stopped at once, one leader with a wrong journal would stop a sound majority; so it asks what
the voters have cosigned, and stops when they say that it is the odd one out, or when they do not say.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from node import limits
from node.contradictions import Contradictions
from storage.errors import JournalOutvoted
from storage.store import LedgerInfo, Store
from storage.transition import Dispute

_log = structlog.get_logger("node.cosigning")


class Disputes:
    """The disputes that this node is in, one a ledger at most. `monotonic_s` is a clock."""

    def __init__(
        self, store: Store, contradictions: Contradictions, monotonic_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._contradictions = contradictions
        self._monotonic_s = monotonic_s
        self._open: dict[bytes, tuple[Dispute, float]] = {}

    def noticed(self, dispute: Dispute) -> None:
        """To be told of each, when it was applied. Never raises."""
        if dispute.ledger_id not in self._open:
            self._open[dispute.ledger_id] = dispute, self._monotonic_s() + limits.DISPUTE_TIMEOUT_S
            _log.critical("this node has another journal than the leader had", **_details(dispute))

    def settle(self, ledgers: dict[bytes, LedgerInfo]) -> None:
        """Ends what can be ended by now. Raises JournalOutvoted when this node must stop."""
        against = self._contradictions.majority_against()
        if against is not None:
            raise JournalOutvoted(against)
        for ledger_id, (dispute, until_s) in list(self._open.items()):
            info = ledgers.get(ledger_id)
            if info is None:
                del self._open[ledger_id]
            elif self._contradictions.majority_agrees(info, dispute.size):
                _log.error("a majority has this node's journal: the leader was wrong", **_details(dispute))
                del self._open[ledger_id]
            elif self._monotonic_s() > until_s:
                raise JournalOutvoted(f"{_sentence(dispute)}, and no majority says which is right")

    def alarms(self) -> list[str]:
        """A sentence for each that is not settled."""
        return [_sentence(dispute) for dispute, _ in self._open.values()]


def _sentence(dispute: Dispute) -> str:
    own = "no seal" if dispute.own is None else f"root {dispute.own.hex()}"
    return (
        f"ledger {dispute.ledger!r}: a leader sealed {dispute.size} blocks with root {dispute.theirs.hex()}, "
        f"but this replica has {own} there"
    )


def _details(dispute: Dispute) -> dict[str, object]:
    return {
        "ledger": dispute.ledger,
        "size": dispute.size,
        "its_root": dispute.theirs.hex(),
        "own_root": None if dispute.own is None else dispute.own.hex(),
    }
