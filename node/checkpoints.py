"""Signed checkpoints: the log's signature for what this node has applied, with the cosignatures gathered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from node.own_keys import LogKeys
from stele.format.note import SigningKey, checkpoint_text
from stele.verify.key_history import KeyHistory
from storage.errors import InvariantBroken, LedgerUnknown, NotSealed
from storage.store import LedgerInfo, Store


class LogKeyMissing(Exception):
    """The log's key was rotated, and this node's file does not hold the new one."""


class Tree(NamedTuple):
    """What a checkpoint states of a ledger: the root of its journal right after a seal."""

    info: LedgerInfo
    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return checkpoint_text(self.origin, self.size, self.root)


class Checkpoints:
    """Signs, for the log, what this node has applied. Every checkpoint signed is kept in the store.

    A checkpoint's origin is "<cluster>/<ledger>", and so is its key's name: the same private key gives every
    ledger a verifier key of its own. A ledger that took the name of a deleted one is another log, with the
    origin "<cluster>/<ledger>.<id>": nobody ever signs two roots for one size of one origin.
    """

    def __init__(
        self, store: Store, cluster: str, log_keys: LogKeys, key_history: Callable[[], KeyHistory]
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._log_keys = log_keys
        self._key_history = key_history
        self._origins: dict[bytes, str] = {}

    def origin(self, info: LedgerInfo) -> str:
        origin = self._origins.get(info.id)
        if origin is None:
            origin = f"{self._cluster}/{info.name}"
            if self._store.checkpoints.name_was_used(info.name):
                origin += f".{info.id.hex()}"
            self._origins[info.id] = origin
        return origin

    def verifier_key(self, ledger: str) -> str:
        """The log's present key for this ledger. Raises LedgerUnknown, LogKeyMissing."""
        return self._signers(self.origin(self._info(ledger)))[0].verifier_key()

    def newest(self, ledger: str) -> Tree:
        """The tree that the newest seal covers, its root recomputed. Raises LedgerUnknown, NotSealed."""
        info = self._info(ledger)
        sealed = self._store.sealed(ledger)
        if sealed is None:
            raise NotSealed(ledger, info.size - 1)
        return self.tree(info, sealed.size)

    def tree(self, info: LedgerInfo, size: int) -> Tree:
        """The journal's own tree of `size` blocks. Raises BlockUnknown."""
        return Tree(info, self.origin(info), size, self._store.journal(info.name).root(size))

    def sign(self, trees: Sequence[Tree]) -> None:
        """Has the log sign what it has not signed yet; the notes are on disk when this returns.

        Raises LogKeyMissing, and InvariantBroken when another root was signed for the same size before: the
        journal on this disk is then not the one that it was.
        """
        rows = self._store.checkpoints
        unsigned: list[tuple[int, int, str]] = []
        for tree in trees:
            note = rows.note(tree.info.number, tree.size)
            if note is not None and not note.startswith(f"{tree.text}\n"):
                raise InvariantBroken(
                    f"ledger {tree.info.name!r}: the root of {tree.size} blocks is {tree.root.hex()}, but this"
                    f" node has signed {note.split(chr(10))[2]} for it"
                )
            lines = "" if note is None else note[len(tree.text) + 1 :]
            missing = [
                line
                for line in (signer.sign(tree.text) for signer in self._signers(tree.origin))
                if line not in lines
            ]
            if missing:
                # The present key comes first, wherever it was added.
                unsigned.append((tree.info.number, tree.size, f"{tree.text}\n{''.join(missing)}{lines}"))
        if unsigned:
            rows.keep(unsigned)

    def note(self, tree: Tree) -> str:
        """The checkpoint of a tree, signed by the log, with every cosignature gathered by now.

        Raises as `sign` does.
        """
        self.sign([tree])
        return self._with_cosignatures(tree.info.number, tree.size)

    def current(self, ledger: str) -> str:
        """The checkpoint of the newest seal. Raises LedgerUnknown, NotSealed, LogKeyMissing."""
        return self.note(self.newest(ledger))

    def covering(self, ledger: str, seq: int) -> tuple[int, str]:
        """(size, note) of the newest checkpoint, which covers block `seq`. Raises as `current`, and NotSealed
        when it does not."""
        tree = self.newest(ledger)
        if tree.size <= seq:
            raise NotSealed(ledger, seq)
        return tree.size, self.note(tree)

    def cosigned(self, ledger: str, required: int, from_size: int) -> str | None:
        """The newest checkpoint from `from_size` on that so many replicas have cosigned, if there is one."""
        tree = self.newest(ledger)
        self.sign([tree])
        rows = self._store.checkpoints
        for size, _ in reversed(rows.listed(tree.info.number, from_size, limit=1_000)):
            names = {each.name for each in rows.cosignatures(tree.info.number, size)}
            if len(names) >= required:
                return self._with_cosignatures(tree.info.number, size)
        return None

    def listed(self, ledger: str, from_size: int, limit: int) -> list[tuple[int, str]]:
        """(size, note with its cosignatures) of checkpoints kept here, smallest first."""
        number = self._info(ledger).number
        return [
            (size, self._with_cosignatures(number, size))
            for size, _ in self._store.checkpoints.listed(number, from_size, limit)
        ]

    def _with_cosignatures(self, number: int, size: int) -> str:
        rows = self._store.checkpoints
        note = rows.note(number, size) or ""
        return note + "".join(each.line for each in rows.cosignatures(number, size))

    def _signers(self, origin: str) -> list[SigningKey]:
        signers = self._log_keys.signers(origin, self._key_history())
        if not signers:
            raise LogKeyMissing("log_key_file does not hold the log's present key, which the journal names")
        return signers

    def _info(self, ledger: str) -> LedgerInfo:
        info = self._store.ledger(ledger)
        if info is None:
            raise LedgerUnknown(ledger)
        return info
