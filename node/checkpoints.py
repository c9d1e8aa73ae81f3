"""Signed checkpoints: the log key, and one signature a ledger and size."""

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
    """Signs what this node has applied. Every checkpoint issued is kept in the store.

    A checkpoint's origin is "<cluster>/<ledger>", and so is its key's name: the same private key gives
    every ledger a verifier key of its own.
    """

    def __init__(self, store: Store, cluster: str, private_key: Ed25519PrivateKey) -> None:
        self._store = store
        self._cluster = cluster
        self._private_key = private_key
        self._newest: dict[str, tuple[bytes, int, str]] = {}

    def verifier_key(self, ledger: str) -> str:
        return self._signer(ledger).verifier_key()

    def size(self, ledger: str) -> int:
        """Blocks that the newest checkpoint covers. Raises LedgerUnknown."""
        return self._store.journal(ledger).size

    def current(self, ledger: str) -> str:
        """The signed note for the ledger's present size. Raises LedgerUnknown."""
        return self._at(ledger, self.size(ledger))[2]

    def covering(self, ledger: str, seq: int) -> tuple[int, str]:
        """(size, note) of a checkpoint that covers block `seq`: the newest one signed, if it does."""
        newest = self._newest.get(ledger)
        info = self._store.ledger(ledger)
        # A ledger that was dropped and created again has another id, and none of the old checkpoints.
        if newest is not None and info is not None and newest[0] == info.id and newest[1] > seq:
            return newest[1], newest[2]
        _, size, note = self._at(ledger, self._store.journal(ledger).size)
        return size, note

    def _at(self, ledger: str, size: int) -> tuple[bytes, int, str]:
        info = self._store.ledger(ledger)
        identity = b"" if info is None else info.id
        newest = self._newest.get(ledger)
        if newest is not None and newest[:2] == (identity, size):
            return newest
        note = self._store.checkpoint(ledger, size)
        if note is None:
            signer = self._signer(ledger)
            note = sign_note(
                checkpoint_text(signer.name, size, self._store.journal(ledger).root(size)), signer
            )
            self._store.save_checkpoint(ledger, size, note)
        self._newest[ledger] = (identity, size, note)
        return self._newest[ledger]

    def _signer(self, ledger: str) -> SigningKey:
        return SigningKey(f"{self._cluster}/{ledger}", self._private_key)
