"""PySyncObj 0.3.17, the stock engine: the one place that imports it.

`SyncObj` below declares, for the type checkers, the private state and methods that this package uses or
replaces; a test checks that each of them exists in exactly this version. Names that PySyncObj's methods use
on `self` are mangled to `_SyncObj__name` when that class is compiled, and are looked up on the instance when
they run. So a subclass that defines `_SyncObj__name` replaces the private method.

PySyncObj takes clock, log and poller from globals of its module. `start` and `bind_tick` run its code with
these names replaced for one instance only, so that nothing is patched for others in the process and every
core can have its own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from consensus import record
from consensus.config import Timing
from consensus.errors import InvariantBroken
from consensus.log import DurableLog
from consensus.messages import Message
from consensus.record import Kind

STOCK_VERSION = "0.3.17"

if TYPE_CHECKING:

    class Node:
        """A member; equal and hashed by id."""

        id: str

        def __init__(self, id: str) -> None: ...

    class Journal:
        """The stock log's interface."""

    class Transport:
        """The stock transport's interface: `ready` is true, callbacks are kept, the rest does nothing."""

        def __init__(self, sync_obj: None, self_node: None, other_nodes: tuple[()]) -> None: ...

    class SyncObjConf:
        """The stock settings."""

        def __init__(self, **settings: object) -> None: ...

    class SyncObj:
        """The stock engine, as far as this package touches it."""

        _SyncObj__raftState: int
        _SyncObj__raftCurrentTerm: int
        _SyncObj__votedForNodeId: str | None
        _SyncObj__raftLeader: Node | None
        _SyncObj__raftElectionDeadline: float
        _SyncObj__raftCommitIndex: int
        _SyncObj__raftLastApplied: int
        _SyncObj__newAppendEntriesTime: float

        def __init__(self, selfNode: Node, otherNodes: list[Node], **settings: object) -> None: ...
        def _onTick(self, timeToWait: float = 0.0) -> None: ...
        def _SyncObj__setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None: ...
        def _SyncObj__setState(self, newState: int) -> None: ...
        def _SyncObj__onBecomeLeader(self) -> None: ...

else:
    from pysyncobj.config import SyncObjConf
    from pysyncobj.journal import Journal
    from pysyncobj.node import Node
    from pysyncobj.syncobj import SyncObj
    from pysyncobj.transport import Transport

__all__ = ["Node", "Outbox", "STOCK_VERSION", "StockEngine", "SyncObj", "bind_tick", "settings", "start"]


class _JournalOverLog(Journal):
    """What the stock methods still in use ask of their log. All others are refused by the base class."""

    def __init__(self, log: DurableLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return self._log.last_index

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Called once, for the entry (no-op, index 1, term 0) that begins every node's empty log."""
        if (command, idx, term) != (bytes([Kind.NO_OP]), 1, 0):
            raise InvariantBroken("PySyncObj appended to the log past its subclass")
        self._log.append(idx, term, record.encode(idx, term, Kind.NO_OP, b""))

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not kept: the commit index is found again after a restart (thesis section 3.8)."""

    def getRaftCommitIndex(self) -> int:
        return 1

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        self._log.set_hard_state(term, votedForNodeId)

    def getCurrentTerm(self) -> int:
        return self._log.current_term

    def getVotedForNodeId(self) -> str | None:
        return self._log.voted_for


class _NullPoller:
    """Nothing to poll: messages come in through `receive`."""

    def poll(self, timeout: float) -> None:
        pass


class Outbox(Transport):
    """The core's transport: it keeps what is to be sent until the log is on disk.

    Each message that comes in, and each tick, puts a bounded number of messages here.
    """

    def __init__(self) -> None:
        super().__init__(None, None, ())
        self._waiting: dict[str, list[Message]] = {}

    def put(self, peer_id: str, message: Message) -> None:
        self._waiting.setdefault(peer_id, []).append(message)

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """The stock engine knows of no other node to send anything to."""
        raise InvariantBroken(f"PySyncObj sent {message['type']!r} past its subclass")

    def take(self) -> list[tuple[str, list[Message]]]:
        """What waits, in order for each peer."""
        taken, self._waiting = self._waiting, {}
        return sorted(taken.items())


def settings(timing: Timing, on_role_changed: Callable[[int, int], None]) -> SyncObjConf:
    """The stock settings that the methods still in use read."""
    return SyncObjConf(
        autoTick=False,
        dynamicMembershipChange=False,
        appendEntriesPeriod=timing.heartbeat_s,
        raftMinTimeout=timing.election_s_min,
        raftMaxTimeout=timing.election_s_max,
        connectionTimeout=timing.election_s_max,
        leaderFallbackTimeout=timing.leader_fallback_s,
        onStateChanged=on_role_changed,
    )


def _with_globals(function: Any, **replaced: object) -> Any:
    return FunctionType(
        function.__code__, {**function.__globals__, **replaced}, function.__name__, function.__defaults__
    )


def start(
    core: SyncObj,
    node: Node,
    *,
    conf: SyncObjConf,
    outbox: Outbox,
    log: DurableLog,
    clock: Callable[[], float],
) -> None:
    """Runs the stock constructor on `core`, with our log, outbox and clock (seconds, monotonic).

    It is given no other nodes: whom it counts would be every node of a set of its own, learners too. So it
    counts none, and each rule that counts is replaced where its section of the thesis stands beside it: votes
    in election.py, commit and check-quorum in raft_rules.py.
    """
    construct = _with_globals(
        SyncObj.__init__,
        createJournal=lambda journal_file: _JournalOverLog(log),
        createPoller=lambda poller_type: _NullPoller(),
        monotonicTime=clock,
    )
    construct(core, node, [], conf=conf, transport=outbox)


def bind_tick(core: SyncObj, clock: Callable[[], float]) -> Callable[[], None]:
    """The stock tick on `core`: candidacy when it is due, then apply, send and compact, in that order."""
    return partial(_with_globals(SyncObj._onTick, monotonicTime=clock), core, 0.0)


class StockEngine(SyncObj):
    """The stock engine with the roads to pickle, snapshots, forwarding and membership changes closed.

    They are closed by name, so that a mistake of ours, or a path overlooked, stops the node.
    """

    def _closed(self, *arguments: object, **named: object) -> NoReturn:
        raise InvariantBroken("this part of PySyncObj is not used")

    _applyCommand = _closed
    _SyncObj__onMessageReceived = _closed
    _SyncObj__sendNextNodeIdx = _closed
    _SyncObj__doApplyCommand = _closed
    _SyncObj__parseChangeClusterRequest = _closed
    _SyncObj__doChangeCluster = _closed
    _SyncObj__updateClusterConfiguration = _closed
    _SyncObj__loadDumpFile = _closed
    _SyncObj__deleteEntriesFrom = _closed
    _SyncObj__deleteEntriesTo = _closed
    _SyncObj__getPrevLogIndexTerm = _closed
    _SyncObj__getEntries = _closed
    _SyncObj__onNodeConnected = _closed
    _SyncObj__onNodeDisconnected = _closed

    def _checkCommandsToApply(self) -> None:
        """The stock command queue stays empty: `propose` appends at once, so that an entry is synced and sent
        in the tick it came in."""
