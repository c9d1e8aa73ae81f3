"""A stock PySyncObj node without a network: it is fed messages, and what it sends is kept.

Used to show that the defects which consensus/ closes are really there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

NO_OP = b"\x01"


class KeptTransport(Transport):  # type: ignore[misc]
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(None, None, ())
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True


class StockNode:
    """The stock engine as n0 of n0, n1, n2."""

    def __init__(self, journal_file: Path | None = None, dump_file: Path | None = None) -> None:
        self.transport = KeptTransport()
        self.peers = {peer_id: Node(peer_id) for peer_id in ("n1", "n2")}
        conf = SyncObjConf(
            autoTick=False,
            commandsWaitLeader=False,
            journalFile=None if journal_file is None else str(journal_file),
            fullDumpFile=None if dump_file is None else str(dump_file),
        )
        self.engine: Any = SyncObj(Node("n0"), list(self.peers.values()), conf=conf, transport=self.transport)
        for peer in self.peers.values():
            self.transport._onNodeConnected(peer)

    def receive(self, sender_id: str, **message: Any) -> None:
        self.transport._onMessageReceived(self.peers[sender_id], message)

    def append(
        self, sender_id: str, term: int, prev: tuple[int, int], entries: list[Any], commit: int
    ) -> None:
        self.receive(
            sender_id,
            type="append_entries",
            term=term,
            commit_index=commit,
            entries=entries,
            prevLogIdx=prev[0],
            prevLogTerm=prev[1],
        )

    def elect(self) -> int:
        """Makes it leader with the vote of n1; returns the term."""
        self.engine._SyncObj__raftElectionDeadline = 0
        self.engine.doTick()
        term: int = self.engine.raftCurrentTerm
        self.receive("n1", type="response_vote", term=term)
        return term

    @property
    def last_index(self) -> int:
        index: int = self.engine._SyncObj__raftLog[-1][1]
        return index

    @property
    def commit_index(self) -> int:
        index: int = self.engine.raftCommitIndex
        return index

    def close(self) -> None:
        self.engine.destroy()
