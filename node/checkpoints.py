"""Signed checkpoints: the log's signature for what this node has applied, with the cosignatures gathered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from node import limits
from node.own_keys import LogKeys
from stele.format.note import SigningKey, checkpoint_text
from stele.verify.errors import VerificationError
from stele.verify.key_history import KeyHistory
from stele.verify.note import ED25519, VerifierKey, open_note
from storage.errors import InvariantBroken, LedgerUnknown
from storage.rows import Sealed
from storage.store import LedgerInfo, Store


class LogKeyMissing(Exception):
    """The log's key was rotated, and this node's file does not hold the new one."""


class Demand(NamedTuple):
    """Who must have cosigned a checkpoint: so many replicas, and outside witnesses, by their keys' names."""

    replicas: int
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return " and ".join([f"{self.replicas} replicas", *sorted(self.names)])


NO_DEMAND = Demand(0)


class Tree(NamedTuple):
    """What a checkpoint states of a ledger: the root of its journal right after a seal."""

    info: LedgerInfo
    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return checkpoint_text(self.origin, self.size, self.root)


_Signed = dict[bytes, tuple[int, tuple[bytes, ...]]]
"""By a ledger's id: the size of a tree, and the keys that signed its checkpoint."""


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
        # The newest of each ledger that bears the signatures of all these keys.
        self._signed: _Signed = {}
        # Ledger's number and size of what is written and perhaps not on disk yet: nobody gets to see it.
        self._on_the_way: set[tuple[int, int]] = set()

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

    def tree(self, info: LedgerInfo, size: int) -> Tree:
        """The journal's own tree of `size` blocks, its root recomputed. Raises BlockUnknown."""
        return Tree(info, self.origin(info), size, self._store.journal(info.name).root(size))

    def sign(self, trees: Sequence[Tree]) -> None:
        """Has the log sign what it has not signed yet; the notes are on disk when this returns.

        Raises LogKeyMissing, and InvariantBroken when another root was signed for the same size before: the
        journal on this disk is then not the one that it was.
        """
        made, signed = self._made(trees)
        if made:
            self._store.checkpoints.keep(made)
        self._signed.update(signed)

    async def sign_beside(self, trees: Sequence[Tree], sync: Callable[[], Awaitable[None]]) -> None:
        """As `sign`, while the event loop goes on: `sync` returns once all that was written is on disk."""
        made, signed = self._made(trees)
        if made:
            places = {(number, size) for number, size, _ in made}
            self._on_the_way |= places
            self._store.checkpoints.keep(made, sync=False)
            await sync()
            self._on_the_way -= places
        self._signed.update(signed)

    def _made(self, trees: Sequence[Tree]) -> tuple[list[tuple[int, int, str]], _Signed]:
        """The notes to be kept, and what is signed once they are."""
        made: list[tuple[int, int, str]] = []
        signed: _Signed = {}
        for tree in trees:
            signers = self._signers(tree.origin)
            complete = tree.size, tuple(signer.key_id for signer in signers)
            if self._signed.get(tree.info.id) == complete:
                continue
            note = self._completed(tree, signers)
            if note is not None:
                made.append((tree.info.number, tree.size, note))
            signed[tree.info.id] = complete
        return made, signed

    def _completed(self, tree: Tree, signers: Sequence[SigningKey]) -> str | None:
        """The note with the signatures that it lacks, the present key's first; None when it has them all."""
        note = self._store.checkpoints.note(tree.info.number, tree.size)
        if note is not None and not note.startswith(f"{tree.text}\n"):
            raise InvariantBroken(
                f"ledger {tree.info.name!r}: the root of {tree.size} blocks is {tree.root.hex()}, but a "
                f"checkpoint that was signed here begins {note[:256]!r}"
            )
        lines = "" if note is None else note[len(tree.text) + 1 :]
        made = [signer.sign(tree.text) for signer in signers]
        missing = [line for line in made if line not in lines]
        if not missing and (tree.info.number, tree.size) not in self._on_the_way:
            return None
        return f"{tree.text}\n{''.join(missing)}{lines}"

    def of_seal(self, ledger: str, sealed: Sealed) -> str:
        """The checkpoint right after a seal: signed by the log, with every cosignature gathered by now.

        Raises LedgerUnknown, and as `sign` does.
        """
        tree = self.tree(self._info(ledger), sealed.size)
        self.sign([tree])
        return self._with_cosignatures(tree.info.number, tree.size)

    def check_kept(self, ledger: str, note: str) -> None:
        """Raises InvariantBroken unless a key that speaks, or spoke, for the log signed what is kept, and
        LedgerUnknown. Before the journal names such a key, nothing can be said."""
        info, history = self._info(ledger), self._key_history()
        if history.log is None:
            return
        named = [history.log, *history.former_logs]
        keys = [VerifierKey(self.origin(info), ED25519, key.public_key) for key in named]
        try:
            open_note(note, keys)
        except VerificationError as error:
            raise InvariantBroken(
                f"ledger {ledger!r}: a checkpoint that is kept does not hold: {error}"
            ) from error

    def cosigned(self, ledger: str, demand: Demand, from_size: int) -> str | None:
        """The newest checkpoint from `from_size` on that all those have cosigned, if there is one.

        Raises LedgerUnknown.
        """
        rows = self._store.checkpoints
        number = self._info(ledger).number
        for size, _ in reversed(rows.listed(number, from_size, limits.CHECKPOINTS_LIMIT_MAX)):
            if (number, size) not in self._on_the_way and self._fulfils(number, size, demand):
                return self._with_cosignatures(number, size)
        return None

    def fulfils(self, ledger: str, size: int, demand: Demand) -> bool:
        """Whether the checkpoint of `size` has what is demanded, as far as is known. Raises LedgerUnknown."""
        return self._fulfils(self._info(ledger).number, size, demand)

    def _fulfils(self, number: int, size: int, demand: Demand) -> bool:
        """Outside witnesses do not count as replicas."""
        if demand == NO_DEMAND:
            return True
        names = {each.name for each in self._store.checkpoints.cosignatures(number, size)}
        replicas = {key.name for keys in self._key_history().replicas.values() for key in keys}
        return len(names & replicas) >= demand.replicas and demand.names <= names

    def listed(self, ledger: str, from_size: int, limit: int) -> list[tuple[int, str]]:
        """(size, note with its cosignatures) of checkpoints kept here, smallest first."""
        number = self._info(ledger).number
        return [
            (size, self._with_cosignatures(number, size))
            for size, _ in self._store.checkpoints.listed(number, from_size, limit)
            if (number, size) not in self._on_the_way
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
