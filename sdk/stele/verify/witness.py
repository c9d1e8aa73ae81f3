"""What a witness decides: https://c2sp.org/tlog-witness, its add-checkpoint call, without any I/O."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stele.verify.checkpoint import Checkpoint, parse_checkpoint, parse_checkpoint_text
from stele.verify.errors import InvalidProof, Malformed, MalformedNote, VerificationError
from stele.verify.limits import ADD_CHECKPOINT_SIZE_BYTES_MAX, CHECKPOINT_SIZE_MAX, WITNESS_PATH_LENGTH_MAX
from stele.verify.merkle import verify_consistency
from stele.verify.note import VerifierKey, decode_base64, split_note
from stele.verify.policy import TrustPolicy

SIZE_MEDIA_TYPE: Final = "text/x.tlog.size"

_old_matches = re.compile("old (0|[1-9][0-9]{0,18})").fullmatch


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign: the size that the witness is thought to have, the proof from there, the note."""

    old_size: int
    path: tuple[bytes, ...]
    note: str

    @classmethod
    def parse(cls, body: bytes) -> AddCheckpoint:
        """Read the body of a request, checking only its form; raise Malformed."""
        if len(body) > ADD_CHECKPOINT_SIZE_BYTES_MAX:
            expected = f"<= {ADD_CHECKPOINT_SIZE_BYTES_MAX}"
            raise Malformed("bytes of the request", expected=expected, found=len(body))
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the request is UTF-8: {error.reason}") from None
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        old = _old_matches(lines[0])
        if not separator or old is None or int(old[1]) > CHECKPOINT_SIZE_MAX:
            raise Malformed("first line of the request", expected="old <size>", found=lines[0][:64])
        if len(lines) - 1 > WITNESS_PATH_LENGTH_MAX:
            raise Malformed("proof lines", expected=f"<= {WITNESS_PATH_LENGTH_MAX}", found=len(lines) - 1)
        return cls(int(old[1]), tuple(decode_base64(line) for line in lines[1:]), note)

    def __bytes__(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old_size}", *(b64encode(node).decode() for node in self.path), "", self.note]
        return "\n".join(lines).encode()


class NotCosigned(VerificationError):
    """The witness does not cosign; `status` is the HTTP status that says why."""

    def __init__(self, status: int, what: str, *, size: int | None = None) -> None:
        """`size` of the latest checkpoint cosigned goes with 409."""
        super().__init__(what)
        self.status = status
        self.size = size


def origin_of(request: AddCheckpoint) -> str:
    """The log that a request is about. Raises NotCosigned 400."""
    try:
        return parse_checkpoint_text(split_note(request.note)[0]).origin
    except MalformedNote as error:
        raise NotCosigned(400, str(error)) from None


def judge(
    request: AddCheckpoint, logs: Mapping[str, Sequence[VerifierKey]], cosigned: Checkpoint | None
) -> Checkpoint:
    """The checkpoint to cosign, after every check of the protocol, in its order.

    `logs` has the keys of each known origin; `cosigned` is the latest checkpoint cosigned for the request's
    origin. Between reading it and storing the result nothing else may be cosigned. Raises NotCosigned.
    """
    origin = origin_of(request)
    keys = logs.get(origin)
    if not keys:
        raise NotCosigned(404, f"no log with origin {origin[:128]!r} is known here")
    try:
        checkpoint = parse_checkpoint(request.note, TrustPolicy(tuple(keys)), origin)
    except VerificationError as error:
        raise NotCosigned(403, str(error)) from None
    if request.old_size > checkpoint.size:
        raise NotCosigned(400, f"old size {request.old_size} of a checkpoint of {checkpoint.size}")
    known_size = 0 if cosigned is None else cosigned.size
    if request.old_size != known_size:
        raise NotCosigned(409, f"the latest checkpoint cosigned has size {known_size}", size=known_size)
    _check_growth(request, cosigned, checkpoint)
    return checkpoint


def _check_growth(request: AddCheckpoint, cosigned: Checkpoint | None, new: Checkpoint) -> None:
    if cosigned is None or cosigned.size == 0:
        if request.path:
            raise NotCosigned(422, "from an empty tree there is no proof")
        return
    if cosigned.size == new.size and cosigned.root != new.root:
        raise NotCosigned(409, "another root was cosigned for this size", size=cosigned.size)
    try:
        verify_consistency(cosigned.size, new.size, request.path, cosigned.root, new.root)
    except (InvalidProof, Malformed) as error:
        raise NotCosigned(422, str(error)) from None
