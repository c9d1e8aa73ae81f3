"""Offline proofs in one text: https://c2sp.org/tlog-proof."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from stele.verify.checkpoint import Checkpoint, parse_checkpoint
from stele.verify.errors import Malformed
from stele.verify.limits import CHECKPOINT_SIZE_MAX, NOTE_SIZE_BYTES_MAX, PATH_LENGTH_MAX
from stele.verify.merkle import verify_inclusion
from stele.verify.note import VerifierKey, decode_base64
from stele.verify.policy import TrustPolicy

_FIRST_LINE = "c2sp.org/tlog-proof@v1"
_HASH_SIZE_BYTES = 32
_index_matches = re.compile("index (0|[1-9][0-9]{0,18})").fullmatch


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A leaf's place in a log, the path from it to a checkpoint's root, and that signed checkpoint.

    `extra` is opaque and not authenticated.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> TlogProof:
        """Read a proof, checking only its form; raise Malformed."""
        if len(text) > NOTE_SIZE_BYTES_MAX:
            raise Malformed(
                "characters of a tlog-proof", expected=f"<= {NOTE_SIZE_BYTES_MAX}", found=len(text)
            )
        head, separator, checkpoint = text.partition("\n\n")
        if not separator or not checkpoint.endswith("\n"):
            raise Malformed("a tlog-proof is its lines, an empty line and a checkpoint")
        lines = head.split("\n")
        if lines.pop(0) != _FIRST_LINE:
            raise Malformed("first line of a tlog-proof", expected=_FIRST_LINE, found=head[:64])
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "))
        index = _index_matches(lines.pop(0)) if lines else None
        if index is None or int(index[1]) >= CHECKPOINT_SIZE_MAX:
            raise Malformed("index line of a tlog-proof", expected="index <decimal>", found=head[:160])
        if len(lines) > PATH_LENGTH_MAX:
            raise Malformed("hashes of a tlog-proof", expected=f"<= {PATH_LENGTH_MAX}", found=len(lines))
        return cls(int(index[1]), tuple(_decode_hash(line) for line in lines), checkpoint, extra)

    def __str__(self) -> str:
        lines = [_FIRST_LINE]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(base64.b64encode(value).decode() for value in self.path)
        return "\n".join(lines) + "\n\n" + self.checkpoint

    def verify(self, leaf: bytes, trust: VerifierKey | TrustPolicy, origin: str | None = None) -> Checkpoint:
        """Check that the leaf with this hash stands in the log, and return the checkpoint it is tied to.

        Raises VerificationError.
        """
        checkpoint = parse_checkpoint(self.checkpoint, trust, origin)
        verify_inclusion(leaf, self.index, checkpoint.size, self.path, checkpoint.root)
        return checkpoint


def _decode_hash(line: str) -> bytes:
    decoded = decode_base64(line)
    if len(decoded) != _HASH_SIZE_BYTES:
        raise Malformed("bytes of a hash in a tlog-proof", expected=_HASH_SIZE_BYTES, found=len(decoded))
    return decoded
