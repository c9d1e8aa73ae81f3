"""Private keys that sign: the log's, the same on every node, and the cosigner's, which is this node's own."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from node import limits
from node.key_files import write_key_file
from stele.format.cosignature import Cosigner
from stele.format.note import SigningKey

PrivateKey: TypeAlias = Ed25519PrivateKey | MLDSA44PrivateKey

_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_pem_blocks = re.compile(rb"-----BEGIN [A-Z ]+-----\n.+?\n-----END [A-Z ]+-----\n", re.DOTALL).findall


class SigningKeyInvalid(ValueError):
    """A file holds no usable key, or not the one expected. The message never shows what it does hold."""


def encode_private_key(key: PrivateKey) -> bytes:
    """Unencrypted PKCS #8 in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private_keys(field: str, path: Path) -> list[PrivateKey]:
    """Every key of a PEM file that only its owner can read, in its order. Raises SigningKeyInvalid.

    `field` is the setting that names the file.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS:
                raise SigningKeyInvalid(f"{field}: {path} can be read by others than its owner (chmod 600)")
            content = file.read(limits.KEY_FILE_SIZE_BYTES_MAX)
    except OSError as error:
        raise SigningKeyInvalid(f"{field}: {path} cannot be read: {error.strerror}") from error
    found: list[PrivateKey] = []
    for block in _pem_blocks(content) or [content]:
        try:
            key = load_pem_private_key(block, password=None)
        except (ValueError, TypeError) as error:
            raise SigningKeyInvalid(f"{field}: {path} is not an unencrypted PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey | MLDSA44PrivateKey):
            raise SigningKeyInvalid(f"{field}: {path} holds a key that is neither Ed25519 nor ML-DSA-44")
        found.append(key)
    return found


def load_log_keys(path: Path) -> list[Ed25519PrivateKey]:
    """The log's key, and while it is rotated a second one behind it. Raises SigningKeyInvalid."""
    found = [key for key in read_private_keys("log_key_file", path) if isinstance(key, Ed25519PrivateKey)]
    if not found:
        raise SigningKeyInvalid(f"log_key_file: {path} is not an Ed25519 key")
    return found


def create_log_key(path: Path) -> None:
    """Write a new Ed25519 key, readable by its owner only, whole or not at all."""
    write_key_file(path, encode_private_key(Ed25519PrivateKey.generate()))


class CosignerKeys:
    """What a replica cosigns with: an Ed25519 key, and perhaps an ML-DSA-44 key, under one name."""

    def __init__(self, name: str, private_keys: list[PrivateKey]) -> None:
        """Raises ValueError unless it is one Ed25519 key and then at most one of ML-DSA-44."""
        ed25519, *others = private_keys
        if not isinstance(ed25519, Ed25519PrivateKey) or len(others) > 1:
            raise ValueError("a cosigner has an Ed25519 key, then at most one ML-DSA-44 key")
        if others and not isinstance(others[0], MLDSA44PrivateKey):
            raise ValueError("a cosigner's second key is an ML-DSA-44 key")
        self._private_keys = private_keys
        self.cosigners = [Cosigner(name, key) for key in private_keys]
        self.plain = SigningKey(name, ed25519)
        """The Ed25519 key for plain notes: statements about the keys themselves."""

    @classmethod
    def generate(cls, name: str, *, ml_dsa: bool = False) -> CosignerKeys:
        made: list[PrivateKey] = [Ed25519PrivateKey.generate()]
        if ml_dsa:
            made.append(MLDSA44PrivateKey.generate())
        return cls(name, made)

    @classmethod
    def read(cls, name: str, path: Path) -> CosignerKeys:
        """Raises SigningKeyInvalid."""
        try:
            return cls(name, read_private_keys("cosigner_key_file", path))
        except SigningKeyInvalid:
            raise
        except ValueError as error:
            raise SigningKeyInvalid(f"cosigner_key_file: {path}: {error}") from error

    def write(self, path: Path) -> None:
        """Readable by its owner only, whole or not at all. Raises OSError."""
        write_key_file(path, b"".join(encode_private_key(key) for key in self._private_keys))

    @property
    def verifier_keys(self) -> list[str]:
        return [cosigner.verifier_key() for cosigner in self.cosigners]


def next_key_file(path: Path) -> Path:
    """Where the key that follows lies until the journal names it."""
    return path.with_name(path.name + ".next")
