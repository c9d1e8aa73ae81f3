"""What Raft drives: the entries go in one by one, in the same order on every node."""

from __future__ import annotations

from typing import Protocol


class StateMachine(Protocol):
    """Implemented by whatever is replicated."""

    @property
    def applied_index(self) -> int:
        """Raft index of the last payload whose effects are kept; 0 before the first.

        After a crash it may be smaller than before (apply need not sync), but never smaller than it was
        when the log last wrote to its store: the log deletes applied entries and trusts this.
        """
        ...

    def apply(self, index: int, payload: bytes) -> object:
        """Applies one payload and returns what its proposer is told.

        Deterministic and atomic. `index` rises, with gaps where Raft has entries of its own. It must not
        raise for what a payload asks: any exception stops the node as a broken invariant.
        """
        ...
