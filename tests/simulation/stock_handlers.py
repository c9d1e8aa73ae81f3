"""The simulated cluster with PySyncObj's own handlers: the canary.

The code that runs here is that of syncobj.py 0.3.17, `__onMessageReceived`; nothing of it is written again. A
follower's append messages and snapshot chunks are handed to it as the dictionaries that it knows, and what it
asks of its log is asked of ours. When the simulation no longer finds F1 and F2 in it, it cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from pysyncobj.syncobj import SyncObj

from consensus import follower, record, stock
from consensus.leader import Followers
from consensus.messages import Append, AppendResponse
from consensus.raft_rules import RaftRules
from consensus.stock import Node, StockEngine

_take_message = vars(SyncObj)["_SyncObj__onMessageReceived"]


def appends(patch: pytest.MonkeyPatch) -> None:
    """F2 (syncobj.py 993-1004): append messages as stock takes them."""
    _lend_the_log(patch)

    def on_append(self: RaftRules, node: Node, message: Append, terms: list[int]) -> None:
        self._canary_prev_index = message.prev_index  # type: ignore[attr-defined]
        entries = [
            (each, message.prev_index + 1 + offset, terms[offset])
            for offset, each in enumerate(message.entries)
        ]
        taken = {
            "type": "append_entries",
            "term": message.term,
            "commit_index": message.commit_index,
            "entries": entries,
            "prevLogIdx": message.prev_index,
            "prevLogTerm": message.prev_term,
        }
        _take_message(self, node, taken)

    patch.setattr(RaftRules, "_on_append", on_append)


def chunks(patch: pytest.MonkeyPatch) -> None:
    """F1 (syncobj.py 1022-1033): snapshot chunks as stock takes them, with the leader's commit index."""
    _lend_the_log(patch)
    _tell_the_commit_index(patch)
    on_append = RaftRules._on_append

    def heartbeat_or_chunk(self: RaftRules, node: Node, message: Append, terms: list[int]) -> None:
        if message.entries or message.term < self.term:
            on_append(self, node, _told_rightly(message), terms)
            return
        # Stock sends chunks of its dump where this leader sends a heartbeat: to who lacks what is deleted.
        self._canary_prev_index = message.prev_index  # type: ignore[attr-defined]
        chunk = {
            "type": "append_entries",
            "term": message.term,
            "commit_index": message.commit_index,
            "serialized": ("a part of the dump", False, False),
        }
        _take_message(self, node, chunk)
        on_append(self, node, _told_rightly(message), terms)

    patch.setattr(RaftRules, "_on_append", heartbeat_or_chunk)


def _told_rightly(message: Append) -> Append:
    shown = message.prev_index + len(message.entries)
    return msgspec.structs.replace(message, commit_index=min(message.commit_index, shown))


def _tell_the_commit_index(patch: pytest.MonkeyPatch) -> None:
    """syncobj.py 1121-1160: a stock leader tells its commit index whatever else the message shows."""
    send, check = Followers._append, follower.terms_of

    def append(self: Followers, peer_id: str, standing: Any, records: Sequence[bytes]) -> None:
        send(self, peer_id, standing, records)
        waiting = self._outbox._waiting[peer_id]
        waiting[-1] = msgspec.structs.replace(waiting[-1], commit_index=standing.commit_index)

    patch.setattr(Followers, "_append", append)
    patch.setattr(follower, "terms_of", lambda message: check(_told_rightly(message)))


class _Unfinished:
    """Chunks of a dump that has not come to its end."""

    def setTransmissionData(self, data: object) -> bool:
        return False


def _lend_the_log(patch: pytest.MonkeyPatch) -> None:
    """What the stock handler asks of its log and its transport."""

    def get_entries(
        self: RaftRules, first: int, count: int | None = None, size_bytes: int | None = None
    ) -> list[tuple[None, int, int]]:
        end = self.log.last_index + 1 if count is None else first + count
        terms = ((index, self.log.term_at(index)) for index in range(first, end))
        return [(None, index, term) for index, term in terms if term is not None]

    def delete_from(self: RaftRules, index: int) -> None:
        if self._log.first_index < index <= self._log.last_index:
            self._log.truncate_from(index)

    def send_next_index(
        self: RaftRules,
        node: Node,
        reset: bool = False,
        nextNodeIdx: int | None = None,
        success: bool = False,
    ) -> None:
        following = nextNodeIdx or self.log.last_index + 1
        if success:
            answer = AppendResponse(self.term, True, following - 1, 0, 0, 0)
        else:
            prev_index = self._canary_prev_index  # type: ignore[attr-defined]
            answer = AppendResponse(self.term, False, prev_index, following, 0, 0)
        self._outbox.put(node.id, answer)

    def add(self: Any, command: bytes, idx: int, term: int) -> None:
        if idx > 1:
            self._log.append(idx, term, command)
        else:
            self._log.append(idx, term, record.encode(idx, term, record.Kind.NO_OP, b""))

    patch.setattr(RaftRules, "_SyncObj__getEntries", get_entries, raising=False)
    patch.setattr(StockEngine, "_SyncObj__deleteEntriesFrom", delete_from)
    patch.setattr(StockEngine, "_SyncObj__sendNextNodeIdx", send_next_index)
    patch.setattr(stock._JournalOverLog, "add", add)
    patch.setattr(StockEngine, "_SyncObj__serializer", _Unfinished(), raising=False)
    patch.setattr(
        RaftRules,
        "_SyncObj__getCurrentLogIndex",
        lambda self: self._log.last_index if not self.leads else self.commit_index,
    )
