"""Whom the client believes, and the rule by which it admits a checkpoint.

A signature shows who made a checkpoint. That the log only ever grew shows from a consistency proof
(RFC 6962 section 2.1.2) between the newest checkpoint remembered and the one seen now.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stele.client.errors import NotTrusted, Rollback, ServerFailed, SplitView, VerificationFailed
from stele.client.memory import CheckpointMemory, Remembered
from stele.client.models import Consistency
from stele.verify.checkpoint import Checkpoint, parse_checkpoint
from stele.verify.errors import VerificationError
from stele.verify.merkle import verify_consistency
from stele.verify.note import VerifierKey


class TrustPolicy:
    """The keys whose signatures count.

    `verifier_key` is the text the operator publishes: "<cluster>/<ledger>+<id>+<base64>". A cluster
    signs all its ledgers with one log key, so the key of one ledger covers the cluster's others.
    Without a key only TrustPolicy.on_first_use() says yes: it takes the key the server shows the
    first time, remembers it, and refuses any other from then on. The first time proves nothing.
    """

    def __init__(self, *verifier_keys: str) -> None:
        """Raises NotTrusted for a text that is no verifier key, or when there is none."""
        if not verifier_keys:
            raise NotTrusted("a trust policy needs a verifier key")
        for text in verifier_keys:
            parse_key(text)
        self._keys = verifier_keys
        self.first_use = False

    @classmethod
    def on_first_use(cls) -> TrustPolicy:
        policy = cls.__new__(cls)
        policy._keys = ()
        policy.first_use = True
        return policy

    def key_of(self, ledger: str) -> str | None:
        """The verifier key for a ledger; None when it is to be taken on first use.

        Raises NotTrusted when the policy's keys are of several clusters and none names the ledger.
        """
        if self.first_use:
            return None
        for text in self._keys:
            if ledger_of(text) == ledger:
                return text
        clusters = {(cluster_of(text), text.split("+", 2)[2]) for text in self._keys}
        if len(clusters) != 1:
            raise NotTrusted(f"no trusted key names ledger {ledger!r}, and the keys are of several clusters")
        ((cluster, public),) = clusters
        return _key_text(f"{cluster}/{ledger}", base64.b64decode(public))


def parse_key(text: str) -> VerifierKey:
    """The key in a verifier key text. Raises NotTrusted."""
    try:
        return VerifierKey.parse(text)
    except VerificationError as error:
        raise NotTrusted(f"not a verifier key: {error}") from error


def name_of(verifier_key: str) -> str:
    """The key's name, which is the checkpoint's origin."""
    return verifier_key.partition("+")[0]


def cluster_of(verifier_key: str) -> str:
    return name_of(verifier_key).rpartition("/")[0]


def ledger_of(verifier_key: str) -> str:
    return name_of(verifier_key).rpartition("/")[2]


def _key_text(name: str, public: bytes) -> str:
    # C2SP signed-note: key id = SHA-256(name, newline, algorithm byte, public key), first four bytes.
    key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(public).decode()}"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note it stands in. `verified` says whether a trusted key signed it."""

    note: str
    origin: str
    size: int
    root: bytes
    verified: bool


def open_checkpoint(note: str, verifier_key: str) -> Checkpoint:
    """The checkpoint in a note that `verifier_key` signed. Raises VerificationFailed."""
    try:
        return parse_checkpoint(note, parse_key(verifier_key), name_of(verifier_key))
    except VerificationError as error:
        raise VerificationFailed(f"the checkpoint is not signed as trusted: {error}", seen=note) from error


FetchConsistency = Callable[[int, int], Awaitable[Consistency]]


class Guard:
    """Keeps the view of one ledger append-only: admits a checkpoint only if it extends what was seen."""

    def __init__(
        self, verifier_key: str, ledger_id: str, memory: CheckpointMemory, fetch: FetchConsistency
    ) -> None:
        self.verifier_key = verifier_key
        self.ledger_id = ledger_id
        self._memory = memory
        self._fetch = fetch

    def newest(self) -> Remembered | None:
        """What is remembered now. Take it before a request, to pass as `floor` with its answer."""
        return self._memory.newest(self.verifier_key)

    async def admit(self, note: str, seen: Checkpoint, floor: Remembered | None) -> None:
        """Accepts and remembers a checkpoint whose signature was checked.

        `floor` is what was remembered when the request left; None for an answer that may be old. Answers
        overtake each other, so only a checkpoint older than the floor is a rollback.
        Raises Rollback or SplitView with both notes.
        """
        if floor is not None and seen.size < self._open(floor).size:
            raise Rollback(
                "the server answers from before a checkpoint it has already shown",
                remembered=floor.note,
                seen=note,
            )
        while True:
            known = self.newest()
            if known is not None and await self._covered(known, note, seen):
                return
            new = Remembered(note=note, ledger_id=self.ledger_id)
            if self._memory.replace(self.verifier_key, known, new):
                return

    def _open(self, remembered: Remembered) -> Checkpoint:
        return open_checkpoint(remembered.note, self.verifier_key)

    async def _covered(self, remembered: Remembered, note: str, seen: Checkpoint) -> bool:
        """Whether what is remembered is at least as new; checks that both are of one journal."""
        known = self._open(remembered)
        if known.size == seen.size:
            if known.root != seen.root:
                raise SplitView(
                    "two checkpoints of the same size have different roots",
                    remembered=remembered.note,
                    seen=note,
                )
            return True
        older, newer = (known, seen) if known.size < seen.size else (seen, known)
        try:
            proof = await self._fetch(older.size, newer.size)
            path = [bytes.fromhex(text) for text in proof.path]
            verify_consistency(older.size, newer.size, path, older.root, newer.root)
        except (VerificationError, ValueError, ServerFailed) as error:
            raise SplitView(
                f"no proof that one checkpoint extends the other: {error}",
                remembered=remembered.note,
                seen=note,
            ) from error
        return newer is known
