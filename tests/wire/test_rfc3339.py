import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire.errors import UsageError
from plantroom.wire.reading import TIME_US_MAX, TIME_US_MIN
from plantroom.wire.rfc3339 import format_us, parse_us


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (1_423_072_260_000_000, "2015-02-04T17:51:00Z"),
        (1_423_072_260_250_000, "2015-02-04T17:51:00.25Z"),
        (1_423_072_260_000_001, "2015-02-04T17:51:00.000001Z"),
    ],
)
def test_fraction_is_as_short_as_it_can_be(time_us: int, text: str) -> None:
    assert format_us(time_us) == text


@given(st.integers(TIME_US_MIN, TIME_US_MAX))
def test_every_time_of_a_reading_comes_back(time_us: int) -> None:
    assert parse_us(format_us(time_us)) == time_us


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2015-02-04", "2015-02-04T00:00:00Z"),
        ("2015-02-04T18:51:00+01:00", "2015-02-04T17:51:00Z"),
        ("2015-02-04T17:51:00.5Z", "2015-02-04T17:51:00.500Z"),
        (" 2015-02-04T17:51:00.123456789Z ", "2015-02-04T17:51:00.123456Z"),
    ],
)
def test_other_spellings_are_read(text: str, same: str) -> None:
    assert parse_us(text) == parse_us(same)


@pytest.mark.parametrize("text", ["", "yesterday", "2015-02-04T17:51:00", "2015-13-01"])
def test_what_is_no_time_or_has_no_offset_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_us(text)
