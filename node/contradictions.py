"""Two roots for one size: a replica has cosigned what this node's journal does not say.

Either somebody has this replica's key, or it shows others another history, or the journal of one of the two
was altered on its disk. The signature proves it; it is kept for ever (docs/adr/0010-cosigned-checkpoints.md
says what a node does then, and why it neither stops nor goes on as if nothing had happened).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from node import limits
from node.checkpoints import Checkpoints
from node.key_journal import KeyJournal
from node.notices import Cosigned
from stele.verify.note import VerifierKey
from storage.checkpoints import Contradiction
from storage.store import LedgerInfo, Store

_log = structlog.get_logger("node.cosigning")


class Contradictions:
    """The evidence that this node has, and what follows from it."""

    def __init__(
        self,
        store: Store,
        checkpoints: Checkpoints,
        keys: KeyJournal,
        own_name: str,
        voters: Callable[[], Collection[str]],
    ) -> None:
        """`voters` are the ids of those whose majority counts."""
        self._voters = voters
        self._store = store
        self._checkpoints = checkpoints
        self._keys = keys
        self._own_name = own_name
        self._known: dict[bytes, list[Contradiction]] = {}
        for info in store.ledgers():
            found = store.checkpoints.contradictions(info.number, limits.CONTRADICTIONS_PER_LEDGER_MAX)
            if found:
                self._known[info.id] = found

    def found(self, info: LedgerInfo, cosigned: Cosigned, key: VerifierKey) -> None:
        """Takes up a verified cosignature over another root: kept first, then said as loudly as can be."""
        known = self._known.setdefault(info.id, [])
        identity = cosigned.size, key.name, key.key_id
        if any((each.size, each.name, each.key_id) == identity for each in known):
            return
        if len(known) >= limits.CONTRADICTIONS_PER_LEDGER_MAX:
            return  # More of the same would prove nothing more.
        evidence = Contradiction(
            info.number, cosigned.size, key.key_id, key.name, cosigned.root, cosigned.line
        )
        self._store.checkpoints.keep_contradiction(evidence)
        known.append(evidence)
        _log.critical(
            "a replica has cosigned another history",
            ledger=info.name,
            replica=key.name,
            key_id=key.key_id.hex(),
            size=cosigned.size,
            its_root=cosigned.root.hex(),
            own_root=self._store.journal(info.name).root(cosigned.size).hex(),
        )

    def count(self, ledger_id: bytes) -> int:
        return len(self._known.get(ledger_id, ()))

    def open_of(self, info: LedgerInfo) -> list[Contradiction]:
        """Those by keys that still speak for a replica: retiring or replacing the key closes them."""
        named = {(key.name, key.key_id) for keys in self._keys.history().replicas.values() for key in keys}
        return [each for each in self._known.get(info.id, ()) if (each.name, each.key_id) in named]

    def forbid_cosigning(self, info: LedgerInfo) -> bool:
        """Whether this node's own key is said to have signed another root: it must not sign any more."""
        return any(each.name == self._own_name for each in self.open_of(info))

    def alarms(self) -> list[str]:
        """A sentence for each open contradiction."""
        return [
            f"{each.name} has cosigned another root of ledger {info.name!r} at size {each.size}"
            for info in self._store.ledgers()
            for each in self.open_of(info)
        ]

    def outvoted(self) -> str | None:
        """Why this node must not count as ready: it cannot show that a majority shares its journal.

        Cosignatures over a later root settle it, since a later tree commits to every earlier one. Those of
        whoever contradicts do not count.
        """
        for info in self._store.ledgers():
            for each in self.open_of(info):
                if each.name == self._own_name:
                    return f"this node's key has cosigned another root of ledger {info.name!r}"
                if not self.majority_agrees(info, each.size, without=each.name):
                    return (
                        f"{each.name} has cosigned another root of ledger {info.name!r} at size {each.size}, "
                        "and no majority of replicas has cosigned this node's"
                    )
        return None

    def majority_agrees(self, info: LedgerInfo, size: int, *, without: str = "") -> bool:
        """Whether a majority of the voters has cosigned this node's tree of `size` or of a later size.
        `without` is the name of one that does not count."""
        rows = self._store.checkpoints
        agreeing = {
            cosignature.name
            for each in self._sizes_after(info, size)
            for cosignature in rows.cosignatures(info.number, each)
        }
        return self._is_majority(agreeing - {without})

    def majority_against(self) -> str | None:
        """Why this node must stop, if it must: a majority of the voters has cosigned one and the same other
        root at some size."""
        if not self._known:
            return None
        for info in self._store.ledgers():
            found: dict[tuple[int, bytes], set[str]] = {}
            for each in self.open_of(info):
                found.setdefault((each.size, each.root), set()).add(each.name)
            for (size, root), names in found.items():
                if self._is_majority(names - {self._own_name}):
                    own = self._store.journal(info.name).root(size)
                    return (
                        f"ledger {info.name!r}: a majority, {', '.join(sorted(names))}, has cosigned {size} "
                        f"blocks with root {root.hex()}, but this replica has root {own.hex()} there"
                    )
        return None

    def _is_majority(self, names: set[str]) -> bool:
        replicas, voters = self._keys.history().replicas, self._voters()
        named = {replicas[each][0].name for each in voters if each in replicas}
        return 2 * len(names & named) > len(voters)

    def _sizes_after(self, info: LedgerInfo, size: int) -> list[int]:
        """Checkpoints from `size` on; the first few of them tell as much as all."""
        listed = self._store.checkpoints.listed(info.number, size, limits.CHECKPOINTS_WEIGHED_MAX)
        return [each for each, _ in listed]
