"""Python values as JSON text, refusing what JSON cannot carry.

datetime, date, UUID and Decimal values become JSON strings. The server makes the canonical form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def _refuse_not_finite(value: Any) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(f"this cannot be written as JSON: {value} is no JSON number")
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            _refuse_not_finite(getattr(value, field))
    elif isinstance(value, Mapping):
        for member in value.values():
            _refuse_not_finite(member)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        for member in value:
            _refuse_not_finite(member)
