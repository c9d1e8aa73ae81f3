"""Cosignatures of the replicas: making this node's own, gathering the others', and seeing who contradicts.

A replica cosigns only what it has applied and recomputed itself, never two roots for one size, and only ever
larger trees (https://c2sp.org/tlog-cosignature). What others cosigned is verified before it is kept.
Nothing here is waited for by a write.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec
import structlog

from node import limits
from node.checkpoints import Checkpoints, LogKeyMissing, Tree
from node.contradictions import Contradictions
from node.disputes import Disputes
from node.key_journal import KeyJournal
from node.notices import Cosigned, NodeNotice, Stated, Wanted, decode_notice, encode_notice
from node.own_keys import ReplicaKeys
from stele.format.note import checkpoint_text
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey, open_note
from storage.checkpoints import Cosignature
from storage.store import LedgerInfo, Store

_log = structlog.get_logger("node.cosigning")


@dataclass(slots=True)
class _Wait:
    """A tree whose cosignatures are not all here, when to ask for them again, and how often that was done."""

    ledger: str
    ask_at_s: float
    asked: int = 0


class Cosigning:
    """The cosignatures of one node. Driven by `round`; `take` may be called at any time.

    `notify(peer_id or None for all, body)` sends a notice. `monotonic_s` and `time_s` are clocks.
    """

    def __init__(
        self,
        node_id: str,
        store: Store,
        checkpoints: Checkpoints,
        keys: KeyJournal,
        own: ReplicaKeys,
        *,
        notify: Callable[[str | None, bytes], object],
        monotonic_s: Callable[[], float],
        time_s: Callable[[], float],
        on_statement: Callable[[str], None],
        voters: Callable[[], Collection[str]],
    ) -> None:
        self.contradictions = Contradictions(store, checkpoints, keys, own.name, voters)
        self.disputes = Disputes(store, self.contradictions, monotonic_s)
        self._node_id = node_id
        self._store = store
        self._checkpoints = checkpoints
        self._keys = keys
        self._own = own
        self._notify = notify
        self._monotonic_s = monotonic_s
        self._time_s = time_s
        self._on_statement = on_statement
        self._inbox: dict[str, deque[NodeNotice]] = {}
        self._early: OrderedDict[tuple[bytes, int, str], Cosigned] = OrderedDict()
        self._waiting: OrderedDict[tuple[bytes, int], _Wait] = OrderedDict()
        self._signed: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        self._touched: set[str] = set()
        self._ledgers: dict[bytes, LedgerInfo] = {}
        self._cosigned_with: tuple[str, ...] | None = None
        self._on_change: list[Callable[[], None]] = []
        self.notices_dropped = 0

    # What comes in.

    def take(self, peer_id: str, body: bytes) -> None:
        """Keeps a notice for the next round. Never raises; what is too much is dropped, oldest first."""
        try:
            notice = decode_notice(body)
        except msgspec.MsgspecError as error:
            self.notices_dropped += 1
            _log.warning("a notice cannot be read", peer=peer_id, reason=str(error))
            return
        inbox = self._inbox.setdefault(peer_id, deque())
        if len(inbox) >= limits.NOTICES_WAITING_MAX:
            inbox.popleft()
            self.notices_dropped += 1
        inbox.append(notice)

    def applied(self) -> None:
        """To be called after each entry that this node has applied."""
        self._touched.update(state.name for state in self._store.machine.changed)
        for dispute in self._store.machine.disputes:
            self.disputes.noticed(dispute)

    def on_change(self, callback: Callable[[], None]) -> None:
        """`callback()` follows each round that has kept a cosignature."""
        self._on_change.append(callback)

    @property
    def idle(self) -> bool:
        """Whether no notice waits for a round."""
        return not any(self._inbox.values())

    def gathered(self, info: LedgerInfo) -> int:
        """How many cosignatures of the ledger's newest checkpoint this node has."""
        sealed = self._store.sealed(info.name)
        return 0 if sealed is None else len(self._store.checkpoints.cosignatures(info.number, sealed.size))

    def newly_sealed(self) -> list[Tree]:
        """The trees that the next round cosigns, as far as is known now."""
        present = self._present_keys()
        if not self._touched and present == self._cosigned_with:
            return []
        self._ledgers = {info.id: info for info in self._store.ledgers()}
        return self._uncosigned(present)

    # What a round does.

    def round(self) -> None:
        """Takes a bounded number of notices, cosigns what is newly sealed, asks for what is missing.

        Raises JournalOutvoted when this node has another journal than a majority, and StorageError.
        """
        self._ledgers = {info.id: info for info in self._store.ledgers()}
        kept = self._take_notices()
        kept += self._cosign()
        self.disputes.settle(self._ledgers)
        self._ask_again()
        if kept:
            for callback in self._on_change:
                callback()

    def _take_notices(self) -> int:
        """Of each peer the same number, so that one that talks much does not silence another."""
        kept = 0
        for peer_id, inbox in self._inbox.items():
            for _ in range(min(len(inbox), limits.NOTICES_PER_ROUND_MAX)):
                match inbox.popleft():
                    case Cosigned() as cosigned:
                        kept += self._take_cosigned(cosigned)
                    case Wanted() as wanted:
                        self._answer(peer_id, wanted)
                    case Stated(note):
                        self._on_statement(note)
        return kept

    def _take_cosigned(self, cosigned: Cosigned) -> int:
        """How many cosignatures it made this node keep."""
        info = self._ledgers.get(cosigned.ledger)
        if info is None:
            return 0
        try:
            key = self._verified(info, cosigned)
        except VerificationError as error:
            _log.warning("a cosignature does not hold", ledger=info.name, reason=str(error))
            return 0
        if key is None or self._store.checkpoints.has_cosignature(
            info.number, cosigned.size, key.key_id, key.name
        ):
            return 0
        if cosigned.size > info.size:
            self._keep_for_later(cosigned, key)
            return 0
        return self._compare(info, cosigned, key)

    def _verified(self, info: LedgerInfo, cosigned: Cosigned) -> VerifierKey | None:
        """The key of a replica that made this cosignature; None when the journal names no such key.

        Raises VerificationError when it claims to be such a key's and is not.
        """
        if cosigned.line.find("\n") != len(cosigned.line) - 1:
            return None  # Exactly one line: it is kept and served as it is.
        named = [key for keys in self._keys.history().replicas.values() for key in keys]
        text = checkpoint_text(self._checkpoints.origin(info), cosigned.size, cosigned.root)
        if not cosigned.line.startswith(tuple(f"\u2014 {key.name} " for key in named)):
            return None
        return open_note(f"{text}\n{cosigned.line}", named).signatures[0].key

    def _compare(self, info: LedgerInfo, cosigned: Cosigned, key: VerifierKey) -> int:
        tree = self._checkpoints.tree(info, cosigned.size)
        if cosigned.root != tree.root:
            self.contradictions.found(info, cosigned, key)
            return 0
        sealed = self._store.seal_at_or_after(info.name, cosigned.size)
        if sealed is None or sealed.size != cosigned.size:
            return 0  # True, but nothing that a checkpoint is signed for.
        try:
            self._checkpoints.sign([tree])
        except LogKeyMissing:
            return 0  # It is asked for again.
        line = Cosignature(info.number, cosigned.size, key.key_id, key.name, cosigned.line)
        self._store.checkpoints.keep_cosignatures([line])
        return 1

    def _keep_for_later(self, cosigned: Cosigned, key: VerifierKey) -> None:
        """This node is behind. The newest ones stay; what is lost is asked for again."""
        self._early[cosigned.ledger, cosigned.size, f"{key.name}+{key.key_id.hex()}"] = cosigned
        while len(self._early) > limits.EARLY_COSIGNATURES_MAX:
            self._early.popitem(last=False)

    # This node's own.

    def _cosign(self) -> int:
        """Cosigns the newest tree of each ledger that has one it has not cosigned with its present keys."""
        present = self._present_keys()
        trees = self._uncosigned(present)
        try:
            # On disk before anything is signed over it that leaves this node.
            self._checkpoints.sign(trees)
        except LogKeyMissing:
            return 0  # /readyz says so, and the trees stay uncosigned.
        self._touched.clear()
        self._cosigned_with = present
        kept = 0
        for tree in trees:
            if present and not self.contradictions.forbid_cosigning(tree.info):
                kept += self._cosign_tree(tree)
            self._signed[tree.info.id] = tree.size, present
            self._wait_for_others(tree)
            kept += self._take_early(tree.info)
        return kept

    def _present_keys(self) -> tuple[str, ...]:
        """The keys this node cosigns with, none before the journal names them."""
        named = self._own.named_in(self._node_id, self._keys.history())
        return tuple(self._own.keys.verifier_keys) if named else ()

    def _uncosigned(self, present: tuple[str, ...]) -> list[Tree]:
        """Of the ledgers that were touched; of all when this node's keys are others than last time."""
        for gone in self._signed.keys() - self._ledgers.keys():
            del self._signed[gone]
        trees: list[Tree] = []
        for info in self._ledgers.values():
            if info.name in self._touched or present != self._cosigned_with:
                sealed = self._store.sealed(info.name)
                if sealed is not None and self._signed.get(info.id) != (sealed.size, present):
                    trees.append(self._checkpoints.tree(info, sealed.size))
        return trees

    def _cosign_tree(self, tree: Tree) -> int:
        rows = self._store.checkpoints
        now_s = int(self._time_s())
        made = [
            Cosignature(
                tree.info.number,
                tree.size,
                cosigner.key_id,
                cosigner.name,
                cosigner.cosign(tree.origin, tree.size, tree.root, now_s),
            )
            for cosigner in self._own.keys.cosigners
            if not rows.has_cosignature(tree.info.number, tree.size, cosigner.key_id, cosigner.name)
        ]
        rows.keep_cosignatures(made)
        for each in made:
            self._notify(None, encode_notice(Cosigned(tree.info.id, tree.size, tree.root, each.line)))
        return len(made)

    def _take_early(self, info: LedgerInfo) -> int:
        """What others cosigned before this node had got so far."""
        reached = [key for key in self._early if key[0] == info.id and key[1] <= info.size]
        return sum(self._take_cosigned(self._early.pop(key)) for key in reached)

    # Asking, and being asked.

    def _wait_for_others(self, tree: Tree) -> None:
        wait = _Wait(tree.info.name, self._monotonic_s() + limits.ASK_AGAIN_S_MIN)
        self._waiting[tree.info.id, tree.size] = wait
        while len(self._waiting) > limits.INCOMPLETE_CHECKPOINTS_MAX:
            self._waiting.popitem(last=False)

    def _ask_again(self) -> None:
        now_s = self._monotonic_s()
        for (ledger_id, size), wait in list(self._waiting.items()):
            if wait.ask_at_s > now_s:
                continue
            info = self._store.ledger(wait.ledger)
            missing = self._missing(info, size) if info is not None and info.id == ledger_id else ()
            newest = self._signed.get(ledger_id, (0, ()))[0]
            if info is None or not missing or (size < newest and wait.asked >= limits.ASK_AGAIN_TIMES_MAX):
                del self._waiting[ledger_id, size]
                continue
            for node_id in missing:
                self._notify(node_id, encode_notice(Wanted(ledger_id, size)))
            wait.asked += 1
            delay_s = limits.ASK_AGAIN_S_MIN * 2 ** min(wait.asked, 16)
            wait.ask_at_s = now_s + min(delay_s, limits.ASK_AGAIN_S_MAX)

    def _missing(self, info: LedgerInfo, size: int) -> list[str]:
        """The other replicas whose present keys have not all cosigned this tree."""
        rows = self._store.checkpoints
        return [
            node_id
            for node_id, keys in self._keys.history().replicas.items()
            if node_id != self._node_id
            and not all(rows.has_cosignature(info.number, size, key.key_id, key.name) for key in keys)
        ]

    def _answer(self, peer_id: str, wanted: Wanted) -> None:
        """With every cosignature of the tree that this node has, not only its own."""
        info = self._ledgers.get(wanted.ledger)
        if info is None or wanted.size > info.size:
            return
        found = self._store.checkpoints.cosignatures(info.number, wanted.size)
        if not found:
            return
        root = self._store.journal(info.name).root(wanted.size)
        for each in found[-limits.COSIGNATURES_PER_ANSWER_MAX :]:
            self._notify(peer_id, encode_notice(Cosigned(info.id, wanted.size, root, each.line)))
