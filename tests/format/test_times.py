"""RFC 3339 times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stele.format.errors import InvalidTime
from stele.format.times import format_time, parse_time

US_MIN = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
US_MAX = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z


@given(st.integers(US_MIN, US_MAX))
def test_every_time_comes_back(us: int) -> None:
    text = format_time(us)
    assert len(text) == 27
    assert parse_time(text) == us


@given(st.integers(US_MIN, US_MAX), st.integers(US_MIN, US_MAX))
def test_texts_sort_as_times_do(a: int, b: int) -> None:
    assert (format_time(a) < format_time(b)) == (a < b)


def test_known_times() -> None:
    assert format_time(0) == "1970-01-01T00:00:00.000000Z"
    assert format_time(US_MIN) == "0001-01-01T00:00:00.000000Z"
    assert format_time(US_MAX) == "9999-12-31T23:59:59.999999Z"
    moment = datetime(2026, 11, 23, 13, 35, 31, 123456, UTC)
    assert parse_time("2026-11-23T13:35:31.123456Z") == round(moment.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T13:35:31.5Z",
        "2026-11-23t13:35:31.500z",
        "2026-11-23 13:35:31.500000000Z",
        "2026-11-23T14:35:31.5+01:00",
        "2026-11-23T08:05:31.5-05:30",
        "2026-11-23T13:35:31.5-00:00",
        "2026-11-23T13:35:31.500000999Z",
    ],
)
def test_every_spelling_of_one_instant(text: str) -> None:
    assert format_time(parse_time(text)) == "2026-11-23T13:35:31.500000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T13:35Z",
        "2026-11-23T13:35:31",
        "2026-11-23T13:35:31.Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T13:35:60Z",
        "2026-11-23T13:35:31+24:00",
        "2026-11-23T13:35:31+01:60",
        "2026-11-23T13:35:31Z ",
        "2026-11-23T13:35:31Z\n",
        "２026-11-23T13:35:31Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "20261123T133531Z",
    ],
)
def test_refused_texts(text: str) -> None:
    with pytest.raises(InvalidTime):
        parse_time(text)


@pytest.mark.parametrize("us", [US_MIN - 1, US_MAX + 1, 10**30, -(10**30)])
def test_refused_numbers(us: int) -> None:
    with pytest.raises(InvalidTime):
        format_time(us)
