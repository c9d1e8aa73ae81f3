"""Canonical JSON: RFC 8785 (JCS), with limits.

Two ways lead to the same bytes. The careful way reads with the standard library, walks every value
with its path, and writes with the `rfc8785` package; it is the reference and gives every error. The
fast way reads and writes with msgspec, in C, and gives up (returns None) at anything for which equality
with the careful way is not proven:

- keys past U+D7FF: msgspec sorts by code point, RFC 8785 section 3.2.3 by UTF-16 code unit, and the
  orders differ only where surrogate pairs meet U+E000 to U+FFFF;
- numbers written with an exponent by either side: fractions below 1e-4 or at or above 1e15;
- a repeated member: msgspec keeps the last one silently. Reading without \\u escapes, every colon of the
  text is a member's or a string's, and writing escapes none; so the text and its canonical form hold
  equally many colons exactly when no member was dropped.

A number whose canonical form would be an integer beyond 2^53 - 1 is refused however it was written
(1e20 too): canonical bytes must be readable again under these same rules.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, NoReturn

import msgspec
import rfc8785

from stele.format.errors import CanonicalError
from stele.format.limits import DOCUMENT_SIZE_BYTES_MAX, INTEGER_MAX, JSON_DEPTH_MAX

# What both ways write alike whatever it holds, if its names are ASCII: no fraction, no integer out of range,
# and not deeper than most documents go.
_Scalar = str | bool | None | Annotated[int, msgspec.Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
_Plain4 = dict[str, _Scalar] | list[_Scalar] | _Scalar
_Plain3 = dict[str, _Plain4] | list[_Plain4] | _Scalar
_Plain2 = dict[str, _Plain3] | list[_Plain3] | _Scalar

PlainObject = dict[str, _Plain3]
"""A type for msgspec: an object that it reads as one from ASCII text without points is plain."""

_plain_decode = msgspec.json.Decoder(dict[str, _Plain2] | list[_Plain2]).decode
_fast_decode = msgspec.json.Decoder().decode
_fast_encoder = msgspec.json.Encoder(order="sorted")
_fast_encode = _fast_encoder.encode
_fast_encode_lines = _fast_encoder.encode_lines
_surrogate = re.compile("[\ud800-\udfff]").search

# As numbers, which bytes look for several times faster than for bytes.
_BACKSLASH, _POINT, _COLON = b"\\.:"

# Between these both writers print a fraction in plain decimal (ECMA-262 7.1.12.1 goes further both ways).
_PLAIN_FLOAT_MIN = 1e-4
_PLAIN_FLOAT_MAX = 1e15
# ECMA-262 prints numbers below this without an exponent, so that an integral one reads as an integer.
_EXPONENT_FROM = 1e21
_INTEGER_TEXT_LENGTH_MAX = len(str(-INTEGER_MAX))
_LAST_BEFORE_SURROGATES = "\ud7ff"


def parse(data: bytes, *, size_bytes_max: int = DOCUMENT_SIZE_BYTES_MAX) -> tuple[object, bytes]:
    """Read JSON text and return (value, canonical bytes).

    Integral floats come back as int. The limit holds for the text and for its canonical form.
    Raises CanonicalError.
    """
    _check_size(len(data), size_bytes_max)
    parsed = _parse_fast(data)
    if parsed is None:
        value = _read(data)
        parsed = value, _write(value)
    _check_size(len(parsed[1]), size_bytes_max)
    return parsed


def parse_object(
    data: bytes, size_bytes_max: int = DOCUMENT_SIZE_BYTES_MAX
) -> tuple[dict[str, object], bytes]:
    """Like `parse`, for text whose outermost value must be an object."""
    value, canonical = parse(data, size_bytes_max=size_bytes_max)
    if not isinstance(value, dict):
        raise CanonicalError("", "not-an-object", f"must be a JSON object, not {_kind(value)}")
    return value, canonical


def canonicalize(value: object) -> bytes:
    """Canonical bytes of a Python value made of dict, list, tuple, str, int, float, bool and None.

    Raises CanonicalError.
    """
    if type(value) is dict and _is_plain(value, 1):
        try:
            return _fast_encode(value)
        except UnicodeEncodeError:  # a lone surrogate: the careful way says where
            pass
    return _write(_checked(value, "", 1))


def plain_values(text: bytes, values: Sequence[object], colons: int) -> list[bytes] | None:
    """Canonical bytes of values that msgspec read out of `text` and that are plain: what `parse` gives for
    each, at once. None when that is not sure.

    `colons` says how many there are beside those of the values. Plain is what was read as a `PlainObject`
    where `may_be_plain`, or what `settle` says.
    """
    if _BACKSLASH in text and b"\\u" in text:
        return None
    canonical = _fast_encode_lines(values)
    # No value's canonical form holds more colons than its text: all hold equally many, or the sum is less.
    if canonical.count(_COLON) + colons != text.count(_COLON):
        return None
    found = canonical.split(b"\n")
    found.pop()
    return found


def may_be_plain(text: bytes) -> bool:
    """Whether reading alone can find plain what stands here."""
    # A point may be a fraction's; to find out by failing would cost more than it saves.
    return _POINT not in text and text.isascii()


def _is_plain(value: object, depth: int) -> bool:
    """Whether both ways are known to write the same of it. Changes nothing, unlike `settle`."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return -INTEGER_MAX <= value <= INTEGER_MAX  # type: ignore[operator]
    if kind is float:
        return _settled_float(value) is value  # type: ignore[arg-type]
    if depth > JSON_DEPTH_MAX:
        return False
    if kind is list:
        return all(_is_plain(item, depth + 1) for item in value)  # type: ignore[attr-defined]
    if kind is not dict:
        return False
    for name, member in value.items():  # type: ignore[attr-defined]
        if type(name) is not str or not (name.isascii() or max(name) <= _LAST_BEFORE_SURROGATES):
            return False
        if not _is_plain(member, depth + 1):
            return False
    return True


def _parse_fast(data: bytes) -> tuple[object, bytes] | None:
    if _BACKSLASH in data and b"\\u" in data:
        return None
    value = _read_plain(data)
    if value is None:
        value = _read_settled(data)
        if value is None:
            return None
    canonical = _fast_encode(value)
    if canonical.count(_COLON) != data.count(_COLON):
        return None
    return value, canonical


def _read_plain(data: bytes) -> object:
    """The value, if reading alone finds it plain; None otherwise."""
    if not may_be_plain(data):
        return None
    try:
        return _plain_decode(data)
    except msgspec.DecodeError:
        return None


def _read_settled(data: bytes) -> object:
    """The value, with integral floats as integers; None when the fast way does not hold."""
    try:
        value = _fast_decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the careful way finds the error again, and where it is
    # A lone number or string outside any container is rare enough to go the careful way.
    if type(value) is dict:
        return value if settle(value, 1) else None
    return value if type(value) is list and _settle_array(value, 1) else None


def settle(members: dict[str, object], depth: int) -> bool:
    """Make integral floats integers in an object that msgspec read, so many levels deep (from 1), in place.
    False when the fast way does not hold."""
    names = "".join(members)
    if not names.isascii() and max(names) > _LAST_BEFORE_SURROGATES:
        return False
    for name, value in members.items():
        kind = type(value)
        if kind is str:
            continue
        if kind is int:
            if not -INTEGER_MAX <= value <= INTEGER_MAX:  # type: ignore[operator]
                return False
        elif kind is float:
            number = _settled_float(value)  # type: ignore[arg-type]
            if number is None:
                return False
            members[name] = number
        elif value is not None and kind is not bool and not _settle_container(value, depth):
            return False
    return True


def _settle_array(items: list[object], depth: int) -> bool:
    """As `settle`, for an array."""
    for index, value in enumerate(items):
        kind = type(value)
        if kind is str:
            continue
        if kind is int:
            if not -INTEGER_MAX <= value <= INTEGER_MAX:  # type: ignore[operator]
                return False
        elif kind is float:
            number = _settled_float(value)  # type: ignore[arg-type]
            if number is None:
                return False
            items[index] = number
        elif value is not None and kind is not bool and not _settle_container(value, depth):
            return False
    return True


def _settle_container(value: object, depth: int) -> bool:
    """Settle what stands inside a container at `depth`."""
    if depth == JSON_DEPTH_MAX:
        return False
    if type(value) is dict:
        return settle(value, depth + 1)
    return _settle_array(value, depth + 1)  # type: ignore[arg-type]


def _settled_float(number: float) -> float | int | None:
    if number.is_integer():
        return int(number) if -INTEGER_MAX <= number <= INTEGER_MAX else None
    return number if _PLAIN_FLOAT_MIN <= abs(number) < _PLAIN_FLOAT_MAX else None


class _Members(tuple[tuple[str, object], ...]):
    """An object as it was read, repeated members and all."""

    __slots__ = ()


class _LongInteger(str):
    """Digits of an integer too long to be worth converting."""

    __slots__ = ()


def _read_integer(text: str) -> int | _LongInteger:
    # int() of many digits takes quadratic time and refuses past 4300; nothing so long is allowed anyway.
    return int(text) if len(text) <= _INTEGER_TEXT_LENGTH_MAX else _LongInteger(text)


def _refuse_constant(text: str) -> NoReturn:
    raise CanonicalError("", "not-finite", f"{text} is not JSON")


_careful_decode = json.JSONDecoder(
    object_pairs_hook=_Members, parse_int=_read_integer, parse_constant=_refuse_constant
).decode


def _read(data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CanonicalError("", "invalid-utf8", f"byte {error.start} is not UTF-8: {error.reason}") from None
    try:
        return _checked(_careful_decode(text), "", 1)
    except json.JSONDecodeError as error:
        raise CanonicalError("", "json-syntax", f"not JSON: {error}") from None
    except RecursionError:
        raise _too_deep("") from None


def _write(value: object) -> bytes:
    return rfc8785.dumps(value)  # type: ignore[arg-type]


def _checked(value: object, path: str, depth: int) -> object:
    """A copy of `value` in which every rule holds and integral floats are integers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, _LongInteger):
        raise _out_of_range(path, f"an integer of {len(value)} characters")
    if isinstance(value, str):
        return _checked_text(value, path)
    if isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise _out_of_range(path, "an integer")
        return value
    if isinstance(value, float):
        return _checked_float(value, path)
    if depth > JSON_DEPTH_MAX:
        raise _too_deep(path)
    if isinstance(value, _Members):
        return _checked_object(value, path, depth)
    if isinstance(value, dict):
        return _checked_object(tuple(value.items()), path, depth)
    if isinstance(value, list | tuple):
        return [_checked(item, f"{path}/{index}", depth + 1) for index, item in enumerate(value)]
    raise CanonicalError(path, "unsupported-type", f"{type(value).__name__} has no JSON form")


def _checked_object(members: tuple[tuple[object, object], ...], path: str, depth: int) -> dict[str, object]:
    checked: dict[str, object] = {}
    for name, value in members:
        if not isinstance(name, str):
            raise CanonicalError(path, "unsupported-type", f"member name {name!r:.64} is not text")
        # JSON Pointer escapes, RFC 6901 section 3. A lone surrogate is shown, not encoded.
        shown = name[:64].encode("utf-8", "backslashreplace").decode()
        member_path = path + "/" + shown.replace("~", "~0").replace("/", "~1")
        if name in checked:
            raise CanonicalError(member_path, "duplicate-member", "the member stands there twice")
        checked[_checked_text(name, member_path)] = _checked(value, member_path, depth + 1)
    return checked


def _checked_text(text: str, path: str) -> str:
    found = _surrogate(text)
    if found is not None:
        raise CanonicalError(
            path, "lone-surrogate", f"U+{ord(found.group()):04X} at character {found.start()} stands alone"
        )
    return text


def _checked_float(number: float, path: str) -> float | int:
    if math.isnan(number):
        raise CanonicalError(path, "not-finite", "NaN is not JSON")
    if math.isinf(number):
        raise _out_of_range(path, "a number past the largest double")
    if not number.is_integer() or abs(number) >= _EXPONENT_FROM:
        return number
    if abs(number) > INTEGER_MAX:
        raise _out_of_range(path, "a number")
    return int(number)


def _check_size(size_bytes: int, size_bytes_max: int) -> None:
    if size_bytes > size_bytes_max:
        raise CanonicalError(
            "", "too-large", f"{size_bytes} bytes of JSON, where {size_bytes_max} is the limit"
        )


def _out_of_range(path: str, what: str) -> CanonicalError:
    return CanonicalError(
        path, "number-out-of-range", f"{what} that has no exact form within \u00b1{INTEGER_MAX}"
    )


def _too_deep(path: str) -> CanonicalError:
    return CanonicalError(path, "too-deep", f"nested deeper than {JSON_DEPTH_MAX} levels")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "a string" if isinstance(value, str) else "an array"
