"""What verification finds wrong. Nothing is trusted before it has returned without raising one of these."""

from __future__ import annotations


class VerificationError(Exception):
    """Something does not hold. `what` says what was checked, `expected` and `found` what stood there."""

    def __init__(self, what: str, *, expected: object = None, found: object = None) -> None:
        message = what
        if expected is not None or found is not None:
            message = f"{what}: expected {_shown(expected)}, found {_shown(found)}"
        super().__init__(message)
        self.what = what
        self.expected = expected
        self.found = found


class Malformed(VerificationError):
    """Input that does not have the form its format demands."""


class MalformedNote(Malformed):
    """Text that is no signed note (C2SP signed-note)."""


class InvalidVerifierKey(VerificationError):
    """A verifier key that cannot be used, or two that cannot be told apart."""


class InvalidPolicy(VerificationError):
    """Text that is no trust policy (C2SP tlog-policy)."""


class InvalidSignature(VerificationError):
    """A signature that claims to be a trusted key's and is not."""


class InvalidKeyStatement(VerificationError):
    """A statement about a cluster's keys that says nothing, or that those who signed it may not make."""


class Unsigned(VerificationError):
    """A note without the trusted signatures that were asked for."""


class InvalidProof(VerificationError):
    """A Merkle path that does not lead to the root."""


class Mismatch(VerificationError):
    """A value that differs from what is committed to."""


class BrokenChain(VerificationError):
    """Blocks or revisions that do not follow each other."""


class Incomplete(VerificationError):
    """Input that ends early, or does not reach as far as was asked."""


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() or "nothing"
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
