"""Making cosignatures of checkpoints: https://c2sp.org/tlog-cosignature.

Two kinds of key: Ed25519 (cosignature/v1, type 04) and ML-DSA-44 (subtree/v1, type 06). Checking them is
`stele.verify.note`, which shares no code with this module.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from stele.format.errors import InvalidNote
from stele.format.limits import TIMESTAMP_MAX_S
from stele.format.note import check_key_name, checkpoint_text

ALGORITHM_COSIGNATURE_V1: Final = b"\x04"
ALGORITHM_ML_DSA_44: Final = b"\x06"
_SUBTREE_LABEL: Final = b"subtree/v1\n\0"
_OPAQUE_SIZE_BYTES_MAX: Final = 255


class Cosigner:
    """A key that states, under a name, which tree of a log its owner has checked, and when.

    An Ed25519 cosignature does not commit to the name: use the key under one name only (C2SP
    tlog-cosignature).
    """

    def __init__(self, name: str, private_key: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
        """`name` as C2SP allows (no spaces, no plus); raises InvalidNote otherwise."""
        self.name = check_key_name(name)
        self._private_key = private_key
        ed25519 = isinstance(private_key, Ed25519PrivateKey)
        algorithm = ALGORITHM_COSIGNATURE_V1 if ed25519 else ALGORITHM_ML_DSA_44
        self._public = algorithm + private_key.public_key().public_bytes_raw()
        self.key_id = hashlib.sha256(name.encode() + b"\n" + self._public).digest()[:4]

    def verifier_key(self) -> str:
        """The public half as text: "<name>+<8 hex digits of key id>+<base64 of type || public key>"."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._public).decode()}"

    def cosign(self, origin: str, size: int, root: bytes, timestamp_s: int, extensions: str = "") -> str:
        """The signature line for a checkpoint, newline included.

        `extensions` are the checkpoint's further lines, each with its newline; only type 04 signs them.

        `timestamp_s` is in POSIX seconds: at that time this was the largest tree that the cosigner had
        checked. Raises InvalidNote for what no checkpoint can state.
        """
        if not 0 <= timestamp_s <= TIMESTAMP_MAX_S:
            raise InvalidNote(f"the time of a cosignature lies between 0 and {TIMESTAMP_MAX_S}")
        text = checkpoint_text(origin, size, root) + extensions
        if isinstance(self._private_key, Ed25519PrivateKey):
            message = f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()
        else:
            message = _subtree_message(self.name, timestamp_s, origin, size, root)
        signature = self.key_id + timestamp_s.to_bytes(8, "big") + self._private_key.sign(message)
        return f"\u2014 {self.name} {base64.b64encode(signature).decode()}\n"


def _subtree_message(name: str, timestamp_s: int, origin: str, size: int, root: bytes) -> bytes:
    """The structure `cosigned_message` for the subtree from leaf 0, which a checkpoint is."""
    return b"".join(
        [
            _SUBTREE_LABEL,
            _opaque(name),
            timestamp_s.to_bytes(8, "big"),
            _opaque(origin),
            (0).to_bytes(8, "big"),
            size.to_bytes(8, "big"),
            root,
        ]
    )


def _opaque(text: str) -> bytes:
    """opaque<1..255> of RFC 8446, section 3.4."""
    encoded = text.encode()
    if not 1 <= len(encoded) <= _OPAQUE_SIZE_BYTES_MAX:
        raise InvalidNote(f"an ML-DSA-44 cosignature takes names of 1 to {_OPAQUE_SIZE_BYTES_MAX} bytes")
    return len(encoded).to_bytes(1, "big") + encoded
