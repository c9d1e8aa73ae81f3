"""Times: RFC 3339 in text, whole microseconds since 1970-01-01T00:00:00Z inside.

Written form: UTC with exactly six decimals, such as 2026-11-23T13:35:31.123456Z. One instant has one
written form, because times stand inside hashed bytes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from stele.format.errors import InvalidTime

_EPOCH = datetime(1970, 1, 1)  # naive on purpose: isoformat then leaves out the offset, and Z is ours
_MICROSECOND = timedelta(microseconds=1)

# RFC 3339 section 5.6, with the lower-case and space variants its notes allow.
_rfc3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,32}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
).fullmatch


def format_time(us: int) -> str:
    """Write microseconds since the epoch as RFC 3339 UTC; raise InvalidTime outside years 1 to 9999."""
    seconds, fraction = divmod(us, 1_000_000)
    try:
        return f"{_second(seconds)}.{fraction:06d}Z"
    except OverflowError:
        raise InvalidTime(f"{us} microseconds since 1970 lies outside the years 1 to 9999") from None


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """Blocks of one second follow each other: the calendar is asked once for all of them."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def parse_time(text: str) -> int:
    """Read an RFC 3339 time of any offset as microseconds since the epoch.

    Digits past the sixth decimal are cut off, which keeps "at or before this time" exact for times
    that are whole microseconds. Leap seconds (:60) are refused: no block can bear one.
    Raises InvalidTime.
    """
    parts = _rfc3339(text)
    if parts is None:
        raise InvalidTime(f"{text[:64]!r} is not an RFC 3339 time such as 2026-11-23T13:35:31.123456Z")
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = parts.groups()
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        zone = UTC if sign is None else _offset(sign, int(offset_hour), int(offset_minute))
        instant = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond, zone
        ).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidTime(f"{text[:64]!r} is no valid time: {error}") from None
    return (instant.replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def _offset(sign: str, hours: int, minutes: int) -> timezone:
    if hours > 23 or minutes > 59:
        raise ValueError("offset must be at most 23:59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == "-" else offset)
