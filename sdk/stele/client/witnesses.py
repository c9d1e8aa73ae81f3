"""Asking witnesses to cosign a checkpoint (https://c2sp.org/tlog-witness)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from stele.client.errors import Conflict, ServerFailed, Unavailable
from stele.client.limits import ATTEMPT_TIMEOUT_S, WITNESS_ANSWER_SIZE_BYTES_MAX, WITNESS_ATTEMPTS_MAX
from stele.verify.checkpoint import Checkpoint
from stele.verify.errors import VerificationError
from stele.verify.note import VerifierKey, open_note, split_note
from stele.verify.policy import Witness
from stele.verify.witness import SIZE_MEDIA_TYPE, AddCheckpoint

FetchPath = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""The consistency proof between two sizes of the log."""


async def ask_witness(
    session: aiohttp.ClientSession,
    witness: Witness,
    note: str,
    checkpoint: Checkpoint,
    fetch: FetchPath,
    *,
    old_size: int = 0,
) -> str:
    """The witness's cosignature lines for a checkpoint, verified.

    `old_size` is what the witness is thought to have cosigned last; it says so itself when that is wrong.
    Raises Conflict (it has cosigned something larger or other), ServerFailed (it refuses, or its answer is no
    cosignature), Unavailable.
    """
    for _ in range(WITNESS_ATTEMPTS_MAX):
        path = await fetch(old_size, checkpoint.size) if 0 < old_size < checkpoint.size else ()
        status, media_type, answer = await _post(
            session, witness, bytes(AddCheckpoint(old_size, tuple(path), note))
        )
        if status == 200:
            return _checked(answer, note, witness.key)
        if status != 409 or media_type != SIZE_MEDIA_TYPE:
            raise ServerFailed(f"witness {witness.key.name} refuses ({status}): {answer.strip()[:500]}")
        known = _size(answer, witness)
        if known > checkpoint.size or known == old_size:
            raise Conflict(f"witness {witness.key.name} has cosigned size {known} or another tree")
        old_size = known
    raise Conflict(f"others submit to witness {witness.key.name} at the same time")


async def _post(session: aiohttp.ClientSession, witness: Witness, body: bytes) -> tuple[int, str, str]:
    if witness.url is None:
        raise ServerFailed(f"the policy states no URL of witness {witness.key.name}")
    timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S)
    url = witness.url.rstrip("/") + "/add-checkpoint"
    try:
        async with session.post(url, data=body, timeout=timeout, allow_redirects=False) as response:
            answer = await response.content.read(WITNESS_ANSWER_SIZE_BYTES_MAX)
            return response.status, response.content_type, answer.decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"witness {witness.key.name} at {url}: {error!r}") from error


def _checked(answer: str, note: str, key: VerifierKey) -> str:
    """The lines of the answer that are this witness's, once they are verified."""
    lines = [line for line in answer.splitlines(keepends=True) if line.startswith(f"\u2014 {key.name} ")]
    try:
        open_note(split_note(note)[0] + "\n" + "".join(lines), [key])
    except VerificationError as error:
        raise ServerFailed(f"what witness {key.name} answers is no cosignature: {error}") from error
    return "".join(lines)


def _size(answer: str, witness: Witness) -> int:
    text = answer.removesuffix("\n")
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise ServerFailed(f"witness {witness.key.name} answers a conflict without its size")
    return int(text)
