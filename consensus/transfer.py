"""Leadership transfer (Raft thesis section 3.10): a leader that wants to go chooses who comes next."""

from __future__ import annotations

import math
from dataclasses import dataclass

from consensus.errors import TransferFailed
from consensus.waiting import Completion


@dataclass(slots=True)
class Transfer:
    """One attempt, on the old leader. `deadline` is when it gives up and takes proposals again."""

    target_id: str
    deadline: float
    completion: Completion
    asked_at: float = -math.inf

    def done(self, leader_id: str) -> None:
        if not self.completion.done():
            self.completion.set_result(leader_id)

    def fail(self, reason: str) -> None:
        if not self.completion.done():
            self.completion.set_exception(TransferFailed(reason))
