"""What nodes tell each other beside Raft, as MessagePack arrays with a tag, decoded strictly.

Everything in a notice proves itself by a signature or is a question; who sent it makes no difference.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from consensus.limits import NOTICE_SIZE_BYTES_MAX
from stele.format.limits import HASH_SIZE_BYTES, LEDGER_ID_SIZE_BYTES, TREE_SIZE_MAX

LedgerId: TypeAlias = Annotated[bytes, Meta(min_length=LEDGER_ID_SIZE_BYTES, max_length=LEDGER_ID_SIZE_BYTES)]
Size: TypeAlias = Annotated[int, Meta(ge=1, le=TREE_SIZE_MAX)]
Root: TypeAlias = Annotated[bytes, Meta(min_length=HASH_SIZE_BYTES, max_length=HASH_SIZE_BYTES)]
Text: TypeAlias = Annotated[str, Meta(max_length=NOTICE_SIZE_BYTES_MAX)]


class Cosigned(Struct, frozen=True, tag=1, array_like=True, forbid_unknown_fields=True, gc=False):
    """A replica's signature line over a ledger's tree."""

    ledger: LedgerId
    size: Size
    root: Root
    line: Text


class Wanted(Struct, frozen=True, tag=2, array_like=True, forbid_unknown_fields=True, gc=False):
    """The sender lacks cosignatures of this tree."""

    ledger: LedgerId
    size: Size


class Stated(Struct, frozen=True, tag=3, array_like=True, forbid_unknown_fields=True, gc=False):
    """A statement about keys that the leader is to record (node/key_journal.py)."""

    note: Text


NodeNotice: TypeAlias = Cosigned | Wanted | Stated

encode_notice = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[NodeNotice] = msgspec.msgpack.Decoder(NodeNotice)


def decode_notice(body: bytes) -> NodeNotice:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(body)
