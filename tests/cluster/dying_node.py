"""`steled serve` that kills itself, as kill -9 does, before the step of an installation that DIE_AT names."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from node.main import main
from storage.engine import RaftRows
from storage.received import ReceivedSnapshot
from storage.store import Store

_complete = ReceivedSnapshot.complete
_open = Store.open


def _step(name: str) -> None:
    if name == os.environ["DIE_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)


def _dying_complete(self: ReceivedSnapshot, store: Store, own: Callable[[RaftRows], None]) -> None:
    _complete(self, store, own, _step)


def _dying_open(path: Path) -> Store:
    return _open(path, _step)


if __name__ == "__main__":
    ReceivedSnapshot.complete = _dying_complete  # type: ignore[assignment,method-assign]
    Store.open = _dying_open  # type: ignore[assignment,method-assign]
    main()
