"""What the proofs as of one seal have in common, made once: the seal's place, and the entries of tables."""

from __future__ import annotations

from node import limits
from node.http.proof_bodies import Entry, Seal


class Shared:
    """As of the seal that made the journal `size` blocks long."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seal: Seal | None = None
        self._tables: dict[str, Entry] = {}

    def table(self, name: str) -> Entry | None:
        return self._tables.get(name)

    def keep_table(self, name: str, entry: Entry) -> Entry:
        """Whoever asks for names without end makes the others be looked up again, and nothing more."""
        if len(self._tables) >= limits.PROVED_TABLES_MAX:
            self._tables.clear()
        self._tables[name] = entry
        return entry


class SharedProofs:
    """By ledger, of its newest seal that was proved against."""

    def __init__(self) -> None:
        self._shared: dict[bytes, Shared] = {}

    def of(self, ledger_id: bytes, size: int) -> Shared:
        shared = self._shared.get(ledger_id)
        if shared is None or shared.size != size:
            if len(self._shared) >= limits.PROVED_LEDGERS_MAX:
                self._shared.clear()
            shared = self._shared[ledger_id] = Shared(size)
        return shared
