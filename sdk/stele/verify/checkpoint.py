"""Signed tree heads (https://c2sp.org/tlog-checkpoint) and their growth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stele.verify.errors import Malformed, MalformedNote, Mismatch, Unsigned
from stele.verify.limits import CHECKPOINT_SIZE_MAX
from stele.verify.merkle import verify_consistency
from stele.verify.note import VerifierKey, decode_base64, open_note
from stele.verify.policy import TrustPolicy

_ROOT_SIZE_BYTES = 32
_size_matches = re.compile("0|[1-9][0-9]{0,18}").fullmatch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The root of a log at a size. `origin` names the log."""

    origin: str
    size: int
    root: bytes


def parse_checkpoint(note: str, trust: VerifierKey | TrustPolicy, origin: str | None = None) -> Checkpoint:
    """Open a signed checkpoint and return what it says, if the policy holds for it.

    `origin` is the log's identity; None means the log key's name, which C2SP recommends and Stele does.
    Raises MalformedNote, InvalidSignature, Unsigned (log or too few cosigners), Mismatch (other log).
    """
    policy = policy_of(trust)
    opened = open_note(note, policy.keys)
    signers = {signature.key for signature in opened.signatures}
    checkpoint = parse_checkpoint_text(opened.text)
    logs = [key for key in policy.logs if key in signers]
    if not logs:
        raise Unsigned(
            "the log did not sign the checkpoint", expected=", ".join(key.name for key in policy.logs)
        )
    expected = [key.name for key in logs] if origin is None else [origin]
    if checkpoint.origin not in expected:
        raise Mismatch("origin of the checkpoint", expected=", ".join(expected), found=checkpoint.origin)
    policy.check_quorum(signers)
    return checkpoint


def policy_of(trust: VerifierKey | TrustPolicy) -> TrustPolicy:
    """A log's key alone is a policy without cosigners."""
    return TrustPolicy((trust,)) if isinstance(trust, VerifierKey) else trust


def parse_checkpoint_text(text: str) -> Checkpoint:
    """Read a checkpoint's text without any signature: it proves nothing by itself. Raises MalformedNote."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] != "" or not all(lines[:-1]):
        raise MalformedNote("a checkpoint is three lines or more, none of them empty")
    origin, size, root = lines[:3]
    if _size_matches(size) is None or int(size) > CHECKPOINT_SIZE_MAX:
        raise MalformedNote("size of the checkpoint", expected="a decimal number", found=size[:32])
    try:
        decoded = decode_base64(root)
    except Malformed as error:
        raise MalformedNote(f"root of the checkpoint: {error}") from None
    if len(decoded) != _ROOT_SIZE_BYTES:
        raise MalformedNote("bytes of the root", expected=_ROOT_SIZE_BYTES, found=len(decoded))
    return Checkpoint(origin, int(size), decoded)


def verify_growth(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> None:
    """Raise unless the log only grew from `old` to `new`, as a witness checks it before it cosigns.

    Any log may follow an empty one, which needs no path (https://c2sp.org/tlog-witness).
    Raises Mismatch (another log) and InvalidProof.
    """
    if old.origin != new.origin:
        raise Mismatch("origin of the later checkpoint", expected=old.origin, found=new.origin)
    if old.size == 0 and new.size > 0 and not path:
        return
    verify_consistency(old.size, new.size, path, old.root, new.root)
