"""Python values as JSON text, refusing what JSON cannot carry.

datetime, date, UUID and Decimal values become JSON strings. The server makes the canonical form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from stele.client.errors import Invalid

_encoder = msgspec.json.Encoder()


def encode_json(value: Any) -> bytes:
    """The value as JSON text. Raises Invalid."""
    buffer = bytearray()
    append_json(value, buffer)
    return bytes(buffer)


def append_json(value: Any, buffer: bytearray) -> None:
    """Appends the value as JSON text to the buffer. Raises Invalid."""
    start = len(buffer)
    try:
        _encoder.encode_into(value, buffer, -1)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"this cannot be written as JSON: {error}") from error
    # msgspec writes NaN and Infinity as null, which would silently store something else. Looking for
    # the word costs far less than looking at every value.
    if buffer.find(b"null", start) >= 0:
        _refuse_not_finite(value)


_PLAIN = frozenset({str, int, bool, type(None)})


def _refuse_not_finite(value: Any) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"this cannot be written as JSON: {value} is no JSON number")
        return
    members: Iterable[Any]
    if kind is dict or isinstance(value, Mapping):
        members = value.values()
    elif isinstance(value, msgspec.Struct):
        members = (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        members = value
    else:
        return
    for member in members:
        if type(member) not in _PLAIN:
            _refuse_not_finite(member)
