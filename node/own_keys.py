"""The keys that this node signs with, held against those that the journal names."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.signing_keys import CosignerKeys, SigningKeyInvalid, load_log_keys, next_key_file
from stele.format.note import SigningKey
from stele.verify.key_history import KeyHistory
from storage.checkpoints import CheckpointRows

_log = structlog.get_logger("node.keys")


class LogKeys:
    """The log's private keys, from a file that is read again when the journal names a key it did not hold."""

    def __init__(self, path: Path) -> None:
        """Raises SigningKeyInvalid."""
        self._path = path
        self._keys = load_log_keys(path)
        self._seen = _fingerprint(path)

    @property
    def first(self) -> Ed25519PrivateKey:
        """The one that a cluster begins with."""
        return self._keys[0]

    def signers(self, name: str, history: KeyHistory) -> list[SigningKey]:
        """Who signs for the log `name`: the present key, then former ones that the file still has.

        A former key goes on signing beside the present one, so that whoever trusts it has time to change;
        taking it out of the file ends that. Empty when the file lacks the present key.
        """
        if history.log is None:
            return [SigningKey(name, self.first)]
        present = self._private(history.log.public_key)
        if present is None and self._read_again():
            present = self._private(history.log.public_key)
        if present is None:
            return []
        former = [self._private(key.public_key) for key in reversed(history.former_logs)]
        return [SigningKey(name, key) for key in [present, *former] if key is not None]

    def _private(self, public_key: bytes) -> Ed25519PrivateKey | None:
        for key in self._keys:
            if key.public_key().public_bytes_raw() == public_key:
                return key
        return None

    def _read_again(self) -> bool:
        """Whether the file has changed and holds keys."""
        seen = _fingerprint(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._keys = load_log_keys(self._path)
        except SigningKeyInvalid as error:
            _log.error("the log key in use stays", error=str(error))
            return False
        return True


def _fingerprint(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


class ReplicaKeys:
    """This node's cosigner keys: made on the first start, and then always the ones that the store expects."""

    def __init__(self, name: str, path: Path, rows: CheckpointRows) -> None:
        """Raises SigningKeyInvalid when the file is missing, open to others, or not the one expected."""
        self.name = name
        self._path = path
        self._rows = rows
        expected = rows.cosigner_keys()
        if expected is None:
            self.keys = self._first()
        else:
            self.keys = self._expected(expected)

    def _first(self) -> CosignerKeys:
        """The file may be there: provided by the operator, or by a start that was cut short here."""
        if self._path.exists():
            keys = CosignerKeys.read(self.name, self._path)
        else:
            keys = CosignerKeys.generate(self.name)
            keys.write(self._path)
        self._rows.keep_cosigner_keys("\n".join(keys.verifier_keys))
        return keys

    def _expected(self, expected: str) -> CosignerKeys:
        if self._path.exists():
            keys = CosignerKeys.read(self.name, self._path)
            if "\n".join(keys.verifier_keys) == expected:
                return keys
        # A rotation was cut short between the store and the file.
        following = self._following()
        if following is not None and "\n".join(following.verifier_keys) == expected:
            os.replace(next_key_file(self._path), self._path)
            return following
        what = "holds another key than" if self._path.exists() else "is missing; it should hold"
        raise SigningKeyInvalid(
            f"cosigner_key_file: {self._path} {what} the one that this node's data was signed with, "
            f"{expected.splitlines()[0]}; bring that file back, or retire the key and begin with empty data"
        )

    def _following(self) -> CosignerKeys | None:
        path = next_key_file(self._path)
        return CosignerKeys.read(self.name, path) if path.exists() else None

    def named_in(self, node_id: str, history: KeyHistory) -> bool:
        """Whether the journal names the keys that this node holds.

        When it names those that wait in the next file, they are taken up: the rotation is then done.
        """
        named = [str(key) for key in history.replicas.get(node_id, ())]
        if not named:
            return False
        if named == self.keys.verifier_keys:
            return True
        try:
            following = self._following()
        except SigningKeyInvalid as error:
            _log.error("the next cosigner key cannot be used", error=str(error))
            return False
        if following is None or following.verifier_keys != named:
            return False
        self._rows.keep_cosigner_keys("\n".join(named))
        os.replace(next_key_file(self._path), self._path)
        self.keys = following
        _log.info("cosigner key rotated", verifier_keys=named)
        return True
