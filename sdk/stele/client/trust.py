"""Whom the client believes, and the rule by which it admits a checkpoint.

A signature shows who made a checkpoint. That the log only ever grew shows from a consistency proof
(RFC 6962 section 2.1.2) between the newest checkpoint remembered and the one seen now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stele.client.errors import NotTrusted, Rollback, ServerFailed, SplitView, VerificationFailed
from stele.client.memory import CheckpointMemory, Remembered
from stele.client.models import Consistency
from stele.verify.checkpoint import Checkpoint, parse_checkpoint
from stele.verify.errors import VerificationError
from stele.verify.merkle import verify_consistency
from stele.verify.note import ED25519, VerifierKey
from stele.verify.policy import TrustPolicy as Policy
from stele.verify.proof import ProofVerifier


class TrustPolicy:
    """Whose signatures count.

    `verifier_keys` are the texts an operator publishes: "<cluster>/<ledger>+<id>+<base64>". A cluster
    signs all its ledgers with one log key, so the key of one ledger covers the cluster's others. `parse`
    reads a policy file, which may also demand cosignatures of k of n replicas and of outside witnesses.
    Without a key only TrustPolicy.on_first_use() says yes: it takes the key the server shows the
    first time, remembers it, and refuses any other from then on. The first time proves nothing.
    """

    def __init__(self, *verifier_keys: str) -> None:
        """Raises NotTrusted for a text that is no verifier key, or when there is none."""
        if not verifier_keys:
            raise NotTrusted("a trust policy needs a verifier key")
        self._logs = tuple(parse_key(text) for text in verifier_keys)
        self._policy: Policy | None = None
        self.first_use = False

    @classmethod
    def parse(cls, text: str | bytes) -> TrustPolicy:
        """Read a policy file (https://c2sp.org/tlog-policy). Raises NotTrusted."""
        try:
            policy = Policy.parse(text)
        except VerificationError as error:
            raise NotTrusted(f"not a trust policy: {error}") from error
        if not policy.logs:
            raise NotTrusted("the trust policy names no log")
        trust = cls(*map(str, policy.logs))
        trust._policy = policy
        return trust

    @classmethod
    def on_first_use(cls) -> TrustPolicy:
        trust = cls.__new__(cls)
        trust._logs = ()
        trust._policy = None
        trust.first_use = True
        return trust

    def key_of(self, ledger: str) -> str | None:
        """The verifier key for a ledger; None when it is to be taken on first use.

        Raises NotTrusted when the policy's keys are of several clusters and none names the ledger.
        """
        if self.first_use:
            return None
        for key in self._logs:
            if key.name.rpartition("/")[2] == ledger:
                return str(key)
        clusters = {(key.name.rpartition("/")[0], key.public_key) for key in self._logs}
        if len(clusters) != 1:
            raise NotTrusted(f"no trusted key names ledger {ledger!r}, and the keys are of several clusters")
        ((cluster, public),) = clusters
        return str(VerifierKey(f"{cluster}/{ledger}", ED25519, public))

    def policy_of(self, verifier_key: str) -> Policy:
        """What a checkpoint of the ledger with this key must carry."""
        key = parse_key(verifier_key)
        return Policy((key,)) if self._policy is None else self._policy.for_log(key)


def parse_key(text: str) -> VerifierKey:
    """The key in a verifier key text. Raises NotTrusted."""
    try:
        return VerifierKey.parse(text)
    except VerificationError as error:
        raise NotTrusted(f"not a verifier key: {error}") from error


def name_of(verifier_key: str) -> str:
    """The key's name, which is the checkpoint's origin."""
    return verifier_key.partition("+")[0]


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and the note it stands in. `verified` says whether a trusted key signed it."""

    note: str
    origin: str
    size: int
    root: bytes
    verified: bool


def open_checkpoint(note: str, policy: Policy, origin: str) -> Checkpoint:
    """The checkpoint in a note that fulfils the policy. Raises VerificationFailed."""
    try:
        return parse_checkpoint(note, policy, origin)
    except VerificationError as error:
        raise VerificationFailed(f"the checkpoint is not signed as trusted: {error}", seen=note) from error


FetchConsistency = Callable[[int, int], Awaitable[Consistency]]


class Guard:
    """Keeps the view of one ledger append-only: admits a checkpoint only if it extends what was seen."""

    def __init__(
        self,
        trust: TrustPolicy,
        verifier_key: str,
        ledger_id: str,
        memory: CheckpointMemory,
        fetch: FetchConsistency,
    ) -> None:
        """Raises NotTrusted for a ledger id that is none."""
        self.verifier_key = verifier_key
        self.ledger_id = ledger_id
        self.policy = trust.policy_of(verifier_key)
        self.origin = name_of(verifier_key)
        try:
            self.verifier = ProofVerifier(self.policy, ledger_id, origin=self.origin)
        except VerificationError as error:
            raise NotTrusted(f"the server states no usable id of the ledger: {error}") from error
        signers = self.policy.nearest_signers()
        self.cosignatures = sum(each.url is None for each in signers)
        self._outside = ",".join(each.key.name for each in signers if each.url is not None)
        # Remembered notes fulfilled the policy of their time; for rollbacks only the log's word counts.
        self._log = Policy(self.policy.logs)
        self._memory = memory
        self._fetch = fetch

    def newest(self) -> Remembered | None:
        """What is remembered now. Take it before a request, to pass as `floor` with its answer."""
        return self._memory.newest(self.verifier_key)

    def open(self, note: str) -> Checkpoint:
        """The checkpoint in a note that fulfils the policy. Raises VerificationFailed."""
        try:
            return open_checkpoint(note, self.policy, self.origin)
        except VerificationFailed as error:
            known = self.newest()
            if known is None:
                raise
            message = str(error).partition("\n")[0]
            raise VerificationFailed(message, remembered=known.note, seen=note) from error

    def query(self) -> dict[str, str]:
        """Query parameters that ask for a proof with enough cosignatures."""
        return {"proof": "true"} | self.wait_query()

    def wait_query(self) -> dict[str, str]:
        """Query parameters that ask the server to wait until enough replicas, and the outside witnesses that
        the policy needs, have cosigned."""
        query = {"cosignatures": str(self.cosignatures)} if self.cosignatures else {}
        return query | {"witnesses": self._outside} if self._outside else query

    def size_of(self, remembered: Remembered) -> int:
        """The size of a checkpoint that was remembered."""
        return self._open(remembered).size

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
        return open_checkpoint(remembered.note, self._log, self.origin)

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
