import pytest

from plantroom.device.instants import ISO, UNIX, UNIX_MS, parser, zone
from plantroom.wire.errors import ConfigError

S = 1_000_000


@pytest.mark.parametrize(
    ("form", "timezone", "text", "time_us"),
    [
        (ISO, "UTC", "2015-02-04 17:51:00", 1_423_072_260 * S),
        (ISO, "UTC", "2015-02-04T17:51:00.25", 1_423_072_260 * S + 250_000),
        (ISO, "Europe/Brussels", "2015-02-04T17:51:00+00:00", 1_423_072_260 * S),
        (ISO, "Europe/Brussels", "2015-02-04 18:51:00", 1_423_072_260 * S),
        ("%d.%m.%Y %H:%M", "UTC", "04.02.2015 17:51", 1_423_072_260 * S),
        (UNIX, "UTC", "1423072260.5", 1_423_072_260 * S + 500_000),
        (UNIX_MS, "UTC", "1423072260001", 1_423_072_260 * S + 1000),
    ],
)
def test_text_becomes_microseconds(form: str, timezone: str, text: str, time_us: int) -> None:
    assert parser(form, timezone)(text) == time_us


@pytest.mark.parametrize("text", ["", "yesterday", "2015-13-01 00:00:00", "-5", "nan"])
@pytest.mark.parametrize("form", [ISO, UNIX, UNIX_MS, "%Y-%m-%d"])
def test_what_is_no_time_is_refused(form: str, text: str) -> None:
    with pytest.raises(ValueError):
        parser(form, "UTC")(text)


def test_hour_that_summer_time_skips_is_refused_there_and_fine_in_utc() -> None:
    with pytest.raises(ValueError, match="summer time skips it"):
        parser(ISO, "Europe/Brussels")("2016-03-27 02:10:00")
    assert parser(ISO, "UTC")("2016-03-27 02:10:00") == 1_459_044_600 * S


def test_hour_that_happens_twice_is_the_first_one() -> None:
    assert parser(ISO, "Europe/Brussels")("2016-10-30 02:30:00") == parser(ISO, "UTC")(
        "2016-10-30 00:30:00"
    )


@pytest.mark.parametrize(
    ("not_before", "taken_as"),
    [
        ("2016-10-30 00:20:00", "2016-10-30 00:30:00"),  # it goes forward anyway
        ("2016-10-30 00:30:00", "2016-10-30 00:30:00"),  # twice the same row
        ("2016-10-30 00:50:00", "2016-10-30 01:30:00"),  # the clock was set back
        ("2016-10-30 01:30:01", "2016-10-30 00:30:00"),  # neither goes forward
    ],
)
def test_hour_that_happens_twice_is_the_second_one_where_time_goes_forward(
    not_before: str, taken_as: str
) -> None:
    utc = parser(ISO, "UTC")
    parse = parser(ISO, "Europe/Brussels")
    assert parse("2016-10-30 02:30:00", utc(not_before)) == utc(taken_as)


def test_unknown_time_zone_is_named() -> None:
    with pytest.raises(ConfigError, match="Mars/Base"):
        zone("Mars/Base")
