"""What a witness has cosigned: one file a log, replaced in one step, on disk before anybody is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stele.files import write_whole
from stele.verify.checkpoint import Checkpoint, parse_checkpoint_text
from stele.verify.errors import VerificationError
from stele.verify.limits import ADD_CHECKPOINT_SIZE_BYTES_MAX
from stele.verify.note import split_note


class WitnessDamaged(Exception):
    """A file of the witness cannot be used. It is never overwritten: that would forget what was cosigned."""


class Records:
    """The latest note cosigned of each log, in a directory that one process holds at a time."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory. Raises WitnessDamaged when another process holds it."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("ab")
            _lock(self._lock.fileno())
        except OSError as error:
            raise WitnessDamaged(f"cannot hold {directory}: {error.strerror or error}") from error
        self._directory = directory

    def close(self) -> None:
        """Lets another process have the directory."""
        self._lock.close()

    def latest(self, origin: str) -> Checkpoint | None:
        """The latest checkpoint cosigned for a log. Raises WitnessDamaged."""
        path = self._path(origin)
        try:
            with path.open("rb") as file:
                text = file.read(ADD_CHECKPOINT_SIZE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WitnessDamaged(f"cannot read {path}: {error.strerror}") from error
        try:
            checkpoint = parse_checkpoint_text(split_note(text)[0])
        except VerificationError as error:
            raise WitnessDamaged(f"{path} cannot be read: {error}") from error
        if checkpoint.origin != origin:
            raise WitnessDamaged(f"{path} is of log {checkpoint.origin!r}, not {origin!r}")
        return checkpoint

    def keep(self, origin: str, note: str) -> None:
        """Replace what is known of a log; on disk when this returns. Raises WitnessDamaged."""
        path = self._path(origin)
        try:
            write_whole(path, note.encode(), mode=0o600)
        except OSError as error:
            raise WitnessDamaged(f"cannot write {path}: {error.strerror or error}") from error

    def _path(self, origin: str) -> Path:
        return self._directory / f"{hashlib.sha256(origin.encode()).hexdigest()}.note"


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The witness's key, an unencrypted PKCS #8 PEM file of mode 0600; made when there is none.

    Raises WitnessDamaged; the message never shows what the file holds.
    """
    try:
        if not path.exists():
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, pem, mode=0o600)
        loaded = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise WitnessDamaged(f"key file {path}: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise WitnessDamaged(f"key file {path} is not an unencrypted PEM private key") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise WitnessDamaged(f"key file {path} is not an Ed25519 key")
    return loaded


def _lock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
