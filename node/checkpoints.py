"""Signed checkpoints: the log key, and one signature a seal."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from node.key_files import write_key_file
from stele.format.note import SigningKey, checkpoint_text, sign_note
from storage.rows import Sealed
from storage.store import Store


class LogKeyInvalid(ValueError):
    """The file holds no usable log key. The message never shows what it does hold."""


def load_log_key(path: Path) -> Ed25519PrivateKey:
    """Read an unencrypted PKCS #8 PEM file. Raises LogKeyInvalid."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise LogKeyInvalid(f"log_key_file: {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise LogKeyInvalid(f"log_key_file: {path} is not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LogKeyInvalid(f"log_key_file: {path} is not an Ed25519 key")
    return key


def create_log_key(path: Path) -> None:
    """Write a new Ed25519 key, readable by its owner only, whole or not at all."""
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_key_file(path, text)


class Checkpoints:
    """Signs seals that this node has applied, and only seals. Every checkpoint issued is kept in the store.

    A checkpoint's origin is "<cluster>/<ledger>", and so is its key's name: the same private key gives
    every ledger a verifier key of its own.
    """

    def __init__(self, store: Store, cluster: str, private_key: Ed25519PrivateKey) -> None:
        self._store = store
        self._cluster = cluster
        self._private_key = private_key
        # The newest issued of each ledger: the seal's root, which no other journal has, and the note.
        self._newest: dict[str, tuple[bytes, str]] = {}

    def verifier_key(self, ledger: str) -> str:
        return self._signer(ledger).verifier_key()

    def of_seal(self, ledger: str, sealed: Sealed) -> str:
        """The signed note for the size right after a seal of the ledger. Raises LedgerUnknown."""
        newest = self._newest.get(ledger)
        if newest is not None and newest[0] == sealed.root:
            return newest[1]
        note = self._store.checkpoint(ledger, sealed.size)
        if note is None:
            signer = self._signer(ledger)
            note = sign_note(checkpoint_text(signer.name, sealed.size, sealed.root), signer)
            self._store.save_checkpoint(ledger, sealed.size, note)
        self._newest[ledger] = sealed.root, note
        return note

    def _signer(self, ledger: str) -> SigningKey:
        return SigningKey(f"{self._cluster}/{ledger}", self._private_key)
