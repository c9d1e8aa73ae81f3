"""What a journal's replay has come to, kept so that the next one need not begin at block 0.

It is kept as of right before a seal, the last block that was read. Whoever takes it up reads that seal again:
the root of the tree behind it must be the one that a checkpoint signs, and its state root that of the buckets
kept here; and every key's newest version is compared with its row in the map. So a signed checkpoint speaks
for all of it but the ids of tables and the erasures still awaited, which nothing in the journal sums up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from stele.verify.chain import Chain
from stele.verify.errors import Malformed, Mismatch
from stele.verify.limits import SAVED_ROWS_PER_FRAME_MAX
from stele.verify.merkle import TreeBuilder


class Mark(msgspec.Struct, frozen=True):
    """A chain right before a seal, but for its keys, which the seal does not change."""

    size: int
    subtrees: tuple[bytes, ...]
    previous: str
    first_at: str
    last_at: str
    revisions: int
    seals: int
    offset_bytes: int
    """Where the seal begins in the file that the blocks are read from."""
    digest: bytes
    """SHA-256 of that file up to there."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    stele_saved: int
    ledger: str
    name: str
    mark: Mark
    tables: list[str]
    erased: int
    awaited: list[tuple[int, str, str, list[int]]]


_Key = tuple[str, str, int, int]
_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_keys = msgspec.msgpack.Decoder(list[_Key]).decode
_decode_buckets = msgspec.msgpack.Decoder(list[bytes]).decode


def mark(chain: Chain, offset_bytes: int, digest: bytes) -> Mark:
    """To be taken right before a seal is appended, whose line begins at `offset_bytes` of a file that has
    this digest up to there."""
    return Mark(
        size=chain.next_seq,
        subtrees=chain.tree.subtrees,
        previous=chain.previous or "",
        first_at=chain.first_at,
        last_at=chain.last_at,
        revisions=chain.revisions,
        seals=chain.seals,
        offset_bytes=offset_bytes,
        digest=digest,
    )


def saved(chain: Chain, marked: Mark) -> Iterator[bytes]:
    """The frames to keep; to be taken right after the seal that `marked` was taken before.

    Raises Malformed for a chain without history, or one that went on.
    """
    if chain.history is None or chain.state is None or chain.next_seq != marked.size + 1:
        raise Malformed("a replay is kept right after the seal that it was marked before")
    erasures = chain.erasures
    head = _Head(
        2,
        chain.ledger,
        chain.name,
        marked,
        chain.history.tables,
        erasures.erased,
        erasures.awaited_claims(),
    )
    digest = hashlib.sha256()
    for frame in _frames(head, chain.history.newest(), chain.state.buckets()):
        digest.update(frame)
        yield frame
    yield digest.digest()


def _frames(head: _Head, keys: Iterator[_Key], buckets: Iterator[bytes]) -> Iterator[bytes]:
    yield _encode(head)
    for rows in (keys, buckets):
        while some := list(islice(rows, SAVED_ROWS_PER_FRAME_MAX)):
            yield _encode(some)
        yield _encode([])


def restored(frames: Iterable[bytes], ledger: str, name: str) -> tuple[Chain, Mark]:
    """A chain that goes on at the seal before which it was kept. Raises Malformed and Mismatch.

    It is to be believed once that seal is appended and the tree's root is that of a signed checkpoint.
    """
    digest = hashlib.sha256()
    waiting = iter(frames)

    def following() -> bytes:
        frame = next(waiting, b"")
        digest.update(frame)
        return frame

    chain = Chain(ledger, name)
    history, state = chain.history, chain.state
    if history is None or state is None:
        raise Malformed("a chain that keeps no history cannot go on")
    try:
        head = _decode_head(following())
        if (head.stele_saved, head.ledger, head.name) != (2, ledger, name):
            raise Mismatch("journal of the replay that was kept", expected=ledger, found=head.ledger)
        history.restore(head.tables)
        while keys := _decode_keys(following()):
            for key in keys:
                history.restore_key(*key)
        while buckets := _decode_buckets(following()):
            for bucket in buckets:
                state.restore(bucket)
    except msgspec.MsgspecError as error:
        raise Malformed(f"the replay that was kept cannot be read: {error}") from None
    if next(waiting, b"") != digest.digest():
        raise Mismatch("digest of the replay that was kept")
    _take_up(chain, head)
    _compare(chain)
    return chain, head.mark


def _take_up(chain: Chain, head: _Head) -> None:
    at = head.mark
    tree = TreeBuilder.restored(at.size, at.subtrees)
    chain.restore(tree, at.previous, at.first_at, at.last_at)
    chain.revisions, chain.seals = at.revisions, at.seals
    chain.erasures.restore(head.erased, head.awaited)


def _compare(chain: Chain) -> None:
    """Every key's newest version is the one in the map, and the map has no other keys."""
    if chain.history is None or chain.state is None:
        return
    count = 0
    for table, key, version, seq in chain.history.newest():
        row = chain.state.row(table, key)
        found = None if row is None else (row.version, row.seq)
        if found != (version, seq):
            raise Mismatch(
                f"newest version and block of {key!r} in {table}", expected=found, found=(version, seq)
            )
        count += 1
    if count != chain.state.rows:
        raise Mismatch("keys of the replay that was kept", expected=chain.state.rows, found=count)
