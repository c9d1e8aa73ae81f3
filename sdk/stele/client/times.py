"""Moments that callers name, as queries and proofs have them."""

from __future__ import annotations

from datetime import UTC, datetime

from stele.client.errors import Invalid
from stele.format.errors import InvalidTime
from stele.format.times import format_time, parse_time
from stele.verify.entry import Moment


def moment_of(as_of_seq: int | None, as_of: datetime | str | None) -> Moment | None:
    """A block, a time, or None for now. Raises Invalid when both are given or the time cannot be read."""
    if as_of_seq is not None and as_of is not None:
        raise Invalid("as_of_seq and as_of exclude each other")
    if as_of_seq is not None:
        return Moment(seq=as_of_seq)
    return None if as_of is None else Moment(at=time_text(as_of))


def time_text(moment: datetime | str) -> str:
    """A time as block headers have it: UTC, six decimals. Raises Invalid."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise Invalid("as_of needs a time zone")
        moment = moment.astimezone(UTC).isoformat()
    try:
        return format_time(parse_time(moment))
    except InvalidTime as error:
        raise Invalid(str(error)) from error
