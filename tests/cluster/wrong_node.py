"""`steled serve` with another state machine than everybody else's: it reads "astray" as "ASTRAY"."""

from __future__ import annotations

from node.main import main
from storage.machine import LedgerMachine
from storage.outcomes import Outcome

_apply = LedgerMachine.apply


def _apply_wrongly(self: LedgerMachine, index: int, payload: bytes) -> list[Outcome]:
    return _apply(self, index, payload.replace(b"astray", b"ASTRAY"))


if __name__ == "__main__":
    LedgerMachine.apply = _apply_wrongly  # type: ignore[method-assign]
    main()
