"""The signing side of C2SP signed notes and checkpoints.

Formats: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint. Checking signatures is
`stele.verify.note`, which shares no code with this module.
"""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stele.format.errors import InvalidNote
from stele.format.limits import HASH_SIZE_BYTES, TREE_SIZE_MAX

ALGORITHM_ED25519 = b"\x01"

# C2SP signed-note: a key name is not empty and holds neither Unicode spaces nor plus characters.
_name_matches = re.compile(r"[^\s+\x00-\x1f\x7f\ud800-\udfff]+").fullmatch
# A line of text may hold any character but C0 controls; Ed25519 signs the UTF-8 bytes.
_text_forbids = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]").search


class SigningKey:
    """An Ed25519 key under a name, as signed notes know it.

    One private key under two names is two keys with different ids: the id hashes the name.
    """

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        """`name` as C2SP allows (no spaces, no plus); raises InvalidNote otherwise."""
        self.name = check_key_name(name)
        self._private_key = private_key
        self._public = ALGORITHM_ED25519 + private_key.public_key().public_bytes_raw()
        self.key_id = hashlib.sha256(name.encode() + b"\n" + self._public).digest()[:4]

    def verifier_key(self) -> str:
        """The public half as text: "<name>+<8 hex digits of key id>+<base64 of 01 || public key>"."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._public).decode()}"

    def sign(self, text: str) -> str:
        """Return the signature line for `text`, newline included; raise InvalidNote for bad text."""
        signature = self._private_key.sign(_check_text(text).encode())
        return f"\u2014 {self.name} {base64.b64encode(self.key_id + signature).decode()}\n"


def check_key_name(name: str) -> str:
    """Return `name` when a key may have it; raise InvalidNote otherwise."""
    if _name_matches(name) is None:
        raise InvalidNote(f"key name {name[:64]!r} must be text without spaces, controls or '+'")
    return name


def sign_note(text: str, *keys: SigningKey) -> str:
    """Return `text`, an empty line and one signature line a key.

    `text` ends in a newline and holds no other control character. Raises InvalidNote.
    """
    if not keys:
        raise InvalidNote("a note needs at least one key to sign it")
    return _check_text(text) + "\n" + "".join(key.sign(text) for key in keys)


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint: origin, tree size in decimal and base64 root, a line each."""
    if not origin or "\n" in origin:
        raise InvalidNote("a checkpoint's origin is one line that is not empty")
    if not 0 <= size <= TREE_SIZE_MAX:
        raise InvalidNote(f"a checkpoint's size lies between 0 and {TREE_SIZE_MAX}, not {size}")
    if len(root) != HASH_SIZE_BYTES:
        raise InvalidNote(f"a root is {HASH_SIZE_BYTES} bytes, not {len(root)}")
    return _check_text(f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n")


def _check_text(text: str) -> str:
    if not text.endswith("\n"):
        raise InvalidNote("the text of a note ends in a newline")
    bad = _text_forbids(text)
    if bad is not None:
        raise InvalidNote(f"the text of a note holds U+{ord(bad.group()):04X} at character {bad.start()}")
    return text
