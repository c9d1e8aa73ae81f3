"""A witness for tests: makes cosignature/v1 lines (https://c2sp.org/tlog-cosignature)."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format.note import SigningKey


def cosign(note: str, key: SigningKey, *, timestamp_s: int) -> str:
    """The signature line by which a witness adds itself to a checkpoint."""
    text = note[: note.rindex("\n\n") + 1]
    private = private_key(key)
    message = f"cosignature/v1\ntime {timestamp_s}\n{text}"
    signature = timestamp_s.to_bytes(8, "big") + private.sign(message.encode())
    public = b"\x04" + private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(key.name.encode() + b"\n" + public).digest()[:4]
    return f"\u2014 {key.name} {base64.b64encode(key_id + signature).decode()}\n"


def private_key(key: SigningKey) -> Ed25519PrivateKey:
    """The private half, which only a test needs back."""
    return key._private_key
