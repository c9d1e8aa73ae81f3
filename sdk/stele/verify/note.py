"""Opening signed notes: https://c2sp.org/signed-note, with golang.org/x/mod/sumdb/note's strictness.

Ed25519 signatures (type 01) and the cosignatures of https://c2sp.org/tlog-cosignature, of Ed25519 (type 04)
and of ML-DSA-44 (type 06), are known; signatures of other keys are ignored, as the format demands.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature as _CryptographyInvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from stele.verify.errors import InvalidSignature, InvalidVerifierKey, Malformed, MalformedNote, Unsigned
from stele.verify.limits import NOTE_SIGNATURES_MAX, NOTE_SIZE_BYTES_MAX, TIMESTAMP_MAX_S

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
ML_DSA_44 = 0x06
COSIGNATURE_TYPES = (COSIGNATURE_V1, ML_DSA_44)
"""Types of keys that cosign checkpoints (https://c2sp.org/tlog-cosignature)."""

_KEY_ID_SIZE_BYTES = 4
_PUBLIC_KEY_SIZE_BYTES = {ED25519: 32, COSIGNATURE_V1: 32, ML_DSA_44: 1_312}
_TIMESTAMP_SIZE_BYTES = 8
_SIGNATURE_SIZE_BYTES = 64
_ML_DSA_44_SIGNATURE_SIZE_BYTES = 2_420
_CHECKPOINT_ROOT_SIZE_BYTES = 32

# A lone surrogate stands for a byte that is not UTF-8: no name, which is hashed as UTF-8, can hold it.
_name_matches = re.compile(r"[^\s+\ud800-\udfff]+").fullmatch
_key_matches = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)").fullmatch
_size_matches = re.compile("0|[1-9][0-9]{0,18}").fullmatch
_line_matches = re.compile("\u2014 ([^ ]+) ([^ ]+)").fullmatch
_forbidden = re.compile("[\x00-\x09\x0b-\x1f]").search


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name. The id is the first four bytes of SHA-256(name, newline, type, key)."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        if _name_matches(self.name) is None:
            raise InvalidVerifierKey(f"key name {self.name[:64]!r} is empty or holds spaces or '+'")
        size_bytes = _PUBLIC_KEY_SIZE_BYTES.get(self.algorithm)
        if size_bytes is None:
            raise InvalidVerifierKey("key type", expected="01, 04 or 06", found=f"{self.algorithm:02x}")
        if len(self.public_key) != size_bytes:
            raise InvalidVerifierKey("bytes of public key", expected=size_bytes, found=len(self.public_key))

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read "<name>+<8 hex digits of id>+<base64 of type || key>"; raise InvalidVerifierKey."""
        parts = _key_matches(text)
        if parts is None:
            raise InvalidVerifierKey(f"{text[:128]!r} is no verifier key")
        name, key_id, encoded = parts.groups()
        try:
            decoded = decode_base64(encoded)
        except Malformed as error:
            raise InvalidVerifierKey(f"verifier key of {name}: {error}") from None
        key = cls(name, decoded[0] if decoded else 0, decoded[1:])
        if key.key_id.hex() != key_id:
            raise InvalidVerifierKey(f"key id of {name}", expected=key.key_id.hex(), found=key_id)
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        material = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        return hashlib.sha256(material).digest()[:_KEY_ID_SIZE_BYTES]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.algorithm]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def for_cosignatures(self) -> VerifierKey:
        """The same key and name as type 04, for witnesses that publish a type 01 key."""
        return VerifierKey(self.name, COSIGNATURE_V1, self.public_key)

    def verify(self, text: str, signature: bytes) -> int | None:
        """Check a signature of `text` and return the POSIX seconds a cosignature states, else None.

        Raises InvalidSignature.
        """
        timestamp = None
        message = text.encode()
        if self.algorithm == COSIGNATURE_V1:
            timestamp = cosignature_timestamp(signature)
            message = f"cosignature/v1\ntime {timestamp}\n".encode() + message
            signature = signature[_TIMESTAMP_SIZE_BYTES:]
        if self.algorithm == ML_DSA_44:
            timestamp = cosignature_timestamp(signature, _ML_DSA_44_SIGNATURE_SIZE_BYTES)
            message = _subtree_message(self.name, timestamp, text)
            signature = signature[_TIMESTAMP_SIZE_BYTES:]
        try:
            if self.algorithm == ML_DSA_44:
                MLDSA44PublicKey.from_public_bytes(self.public_key).verify(signature, message)
            else:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (_CryptographyInvalidSignature, ValueError):
            raise InvalidSignature(f"the signature of {self.name} does not fit the text") from None
        return timestamp


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature that was checked; `timestamp_s` is set for cosignatures (POSIX seconds)."""

    key: VerifierKey
    timestamp_s: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """The text of a note and the trusted signatures on it."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @property
    def signatures_by(self) -> tuple[VerifierKey, ...]:
        """The keys whose signatures hold, in the note's order."""
        return tuple(signature.key for signature in self.signatures)

    @property
    def verified_names(self) -> tuple[str, ...]:
        """Names of the keys whose signatures hold, in the note's order."""
        return tuple(signature.key.name for signature in self.signatures)


def open_note(note: str | bytes, keys: Iterable[VerifierKey]) -> Note:
    """Check a signed note against trusted keys.

    Raises MalformedNote, InvalidVerifierKey (two trusted keys of one name and id), InvalidSignature (a
    trusted key's signature does not hold) or Unsigned (no trusted key signed it).
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        identity = key.name, key.key_id
        if identity in known:
            raise InvalidVerifierKey(f"{key.name} with id {key.key_id.hex()} is trusted twice")
        known[identity] = key
    text, lines = split_note(note)
    verified: dict[tuple[str, bytes], NoteSignature] = {}
    for name, key_id, signature in [_parse_signature_line(line) for line in lines]:
        identity = name, key_id
        signer = known.get(identity)
        # A key's further signatures are ignored, as golang's note does.
        if signer is not None and identity not in verified:
            verified[identity] = NoteSignature(signer, signer.verify(text, signature))
    if not verified:
        raise Unsigned(
            "no trusted key signed the note", expected=", ".join(sorted(name for name, _ in known))
        )
    return Note(text, tuple(verified.values()))


def split_note(note: str | bytes) -> tuple[str, list[str]]:
    """Split a note into its text and its signature lines, checking no signature. Raises MalformedNote."""
    whole = _checked_text(note)
    middle = whole.rfind("\n\n")
    if middle < 0:
        raise MalformedNote("a note needs an empty line between its text and its signatures")
    text, signatures = whole[: middle + 1], whole[middle + 2 :]
    if not signatures.endswith("\n"):
        raise MalformedNote("a note ends in signature lines, each with its newline")
    lines = signatures[:-1].split("\n")
    if len(lines) > NOTE_SIGNATURES_MAX:
        raise MalformedNote("signatures of a note", expected=f"<= {NOTE_SIGNATURES_MAX}", found=len(lines))
    return text, lines


def cosignature_timestamp(signature: bytes, signature_size_bytes: int = _SIGNATURE_SIZE_BYTES) -> int:
    """POSIX seconds at the front of a cosignature (8 bytes big-endian, then by default 64 of Ed25519).

    Raises InvalidSignature for another length or a time past 2**63 - 1.
    """
    size_bytes = _TIMESTAMP_SIZE_BYTES + signature_size_bytes
    if len(signature) != size_bytes:
        raise InvalidSignature("bytes of a cosignature", expected=size_bytes, found=len(signature))
    timestamp = int.from_bytes(signature[:_TIMESTAMP_SIZE_BYTES], "big")
    if timestamp > TIMESTAMP_MAX_S:
        raise InvalidSignature("time of a cosignature", expected=f"<= {TIMESTAMP_MAX_S}", found=timestamp)
    return timestamp


def _subtree_message(name: str, timestamp: int, text: str) -> bytes:
    """What an ML-DSA-44 cosignature of a checkpoint signs: the structure `cosigned_message`.

    It does not cover extension lines. Raises InvalidSignature when `text` is no checkpoint.
    """
    lines = text.split("\n", 3)
    if len(lines) < 4 or _size_matches(lines[1]) is None or int(lines[1]) > TIMESTAMP_MAX_S:
        raise InvalidSignature(f"{name} cosigns checkpoints, and the text is none")
    try:
        root = decode_base64(lines[2])
    except Malformed:
        root = b""
    names = [part.encode() for part in (name, lines[0])]
    if len(root) != _CHECKPOINT_ROOT_SIZE_BYTES or not all(1 <= len(part) <= 255 for part in names):
        raise InvalidSignature(f"{name} cosigns checkpoints, and the text is none")
    cosigner, origin = (bytes([len(part)]) + part for part in names)
    start_and_end = bytes(8) + int(lines[1]).to_bytes(8, "big")
    return b"subtree/v1\n\0" + cosigner + timestamp.to_bytes(8, "big") + origin + start_and_end + root


def decode_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 section 4) in its one canonical spelling; raise Malformed otherwise."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    # Encoding again refuses stray bits after the last byte, which decoders let pass.
    if base64.b64encode(decoded).decode() != text:
        raise Malformed(f"{text[:96]!r} is not canonical base64")
    return decoded


def _checked_text(note: str | bytes) -> str:
    try:
        size_bytes = len(note if isinstance(note, bytes) else note.encode())
        text = note.decode() if isinstance(note, bytes) else note
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise MalformedNote(f"a note is UTF-8: {error.reason}") from None
    if size_bytes > NOTE_SIZE_BYTES_MAX:
        raise MalformedNote("bytes of a note", expected=f"<= {NOTE_SIZE_BYTES_MAX}", found=size_bytes)
    bad = _forbidden(text)
    if bad is not None:
        raise MalformedNote(f"a note holds U+{ord(bad.group()):04X} at character {bad.start()}")
    return text


def _parse_signature_line(line: str) -> tuple[str, bytes, bytes]:
    parts = _line_matches(line)
    if parts is None or _name_matches(parts[1]) is None:
        raise MalformedNote(f"{line[:96]!r} is no signature line")
    try:
        decoded = decode_base64(parts[2])
    except Malformed as error:
        raise MalformedNote(f"signature of {parts[1][:96]}: {error}") from None
    if len(decoded) <= _KEY_ID_SIZE_BYTES:
        raise MalformedNote(f"bytes of the signature of {parts[1][:96]}", expected="> 4", found=len(decoded))
    return parts[1], decoded[:_KEY_ID_SIZE_BYTES], decoded[_KEY_ID_SIZE_BYTES:]
