"""Readings: checked once when made, one form for every number, one hash for one reading."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire.errors import PackError
from plantroom.wire.reading import (
    KEY_MAX,
    POINTS_MAX,
    TIME_US_MAX,
    TIME_US_MIN,
    Point,
    Reading,
    Sample,
    number,
)
from tests.fakes.readings import HVAC, TAKEN_AT_US, hvac_reading, readings

ONE = (Point(name="temperature", unit="Cel", value=21.5),)


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_an_integer_and_the_equal_float_have_one_form(value: int) -> None:
    assert number(value) == value
    if abs(value) <= KEY_MAX:
        assert repr(number(value)) == repr(number(float(value)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_float_stays_as_it_is(value: float) -> None:
    assert number(value) == value
    assert math.copysign(1, number(0.0 * value)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**63, -(2**63) - 1, 10**400])
def test_a_number_without_a_form_is_refused(value: float) -> None:
    with pytest.raises(PackError):
        number(value)


@pytest.mark.parametrize(
    ("name", "unit", "value", "reason"),
    [
        ("", None, 1, "bad-name"),
        ("a/b", None, 1, "bad-name"),
        ("-a", None, 1, "bad-name"),
        ("a" * 65, None, 1, "bad-name"),
        ("temperature\n", None, 1, "bad-name"),
        ("temp\u00e9rature", None, 1, "bad-name"),
        ("a", "", 1, "bad-unit"),
        ("a", "u" * 33, 1, "bad-unit"),
        ("a", None, "x" * 1025, "too-large"),
        ("a", None, "\u00e9" * 513, "too-large"),
        ("a", None, "\ud800", "bad-value"),
        ("a", None, math.nan, "not-finite"),
        ("a", None, 2**63, "out-of-range"),
    ],
)
def test_a_point_that_breaks_a_rule_is_refused_every_time(
    name: str, unit: str | None, value: float | str, reason: str
) -> None:
    for _ in range(2):  # the check of names remembers: it may only remember good ones
        with pytest.raises(PackError) as caught:
            Point(name=name, unit=unit, value=value)
        assert caught.value.reason == reason


def test_points_are_ordered_by_name_and_the_order_given_does_not_matter() -> None:
    low, high = Point(name="a", unit=None, value=1), Point(name="b", unit=None, value=2)
    assert Sample(device=HVAC, time_us=None, points=(high, low)).points == (low, high)
    assert Sample(device=HVAC, time_us=None, points=(low, high)).points == (low, high)


@pytest.mark.parametrize("names", ["aa", "aba", "bab", "abb"])
def test_a_point_twice_in_one_reading_is_refused(names: str) -> None:
    points = tuple(Point(name=name, unit=None, value=1) for name in names)
    with pytest.raises(PackError, match="twice"):
        Sample(device=HVAC, time_us=None, points=points)


@pytest.mark.parametrize("count", [0, POINTS_MAX + 1])
def test_too_few_or_too_many_points_are_refused(count: int) -> None:
    points = tuple(Point(name=f"p{number:03}", unit=None, value=1) for number in range(count))
    with pytest.raises(PackError) as caught:
        Sample(device=HVAC, time_us=None, points=points)
    assert caught.value.reason == "points"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": -1}, "out-of-range"),
        ({"seq": KEY_MAX + 1}, "out-of-range"),
        ({"time_us": TIME_US_MIN - 1}, "out-of-range"),
        ({"time_us": TIME_US_MAX + 1}, "out-of-range"),
        ({"mono_us": -1}, "out-of-range"),
        ({"time_us": None}, "no-time"),
        ({"device": "d" * 513}, "bad-name"),
        ({"points": ()}, "points"),
    ],
)
def test_a_reading_that_breaks_a_rule_is_refused(changes: dict[str, object], reason: str) -> None:
    good: dict[str, object] = {
        "device": HVAC, "epoch": 1, "seq": 0, "time_us": TAKEN_AT_US, "points": ONE
    }  # fmt: skip
    with pytest.raises(PackError) as caught:
        Reading(**good | changes)  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_a_reading_without_wall_time_says_when_by_its_monotonic_clock() -> None:
    reading = Reading(device=HVAC, epoch=1, seq=0, time_us=None, mono_us=5, points=ONE)
    assert reading.mono_us == 5


@given(readings())
def test_equal_readings_have_equal_hashes(reading: Reading) -> None:
    sample = Sample(
        device=reading.device,
        time_us=reading.time_us,
        mono_us=reading.mono_us,
        points=tuple(reversed(reading.points)),
    )
    again = Reading.numbered(sample, epoch=reading.epoch, seq=reading.seq)
    assert again == reading
    assert again.hash() == reading.hash()


@given(readings(), readings())
def test_readings_that_differ_have_different_hashes(one: Reading, other: Reading) -> None:
    # true and 1.0 are equal to Python; they are different values of a reading
    assert (one.canonical() == other.canonical()) == (one.hash() == other.hash())
    if one != other:
        assert one.hash() != other.hash()


def test_a_hash_never_changes_from_one_release_to_the_next() -> None:
    """Hashes are kept for years in stores: these were computed when the format was frozen."""
    assert hvac_reading().hash().hex() == (
        "6ccd7c2e195e45f46b0ef021e1765a279f853a2778f1354d79ae784473419467"
    )
    relative = Reading(
        device=HVAC, epoch=2**53 - 1, seq=3, time_us=None, mono_us=12_345_678,
        points=(Point(name="count", unit="count", value=2**62), *ONE),
    )  # fmt: skip
    assert relative.hash().hex() == (
        "16e342d1414e24800c68b24d50b796a12dfc564b3408d88e5292b01d55ed43b7"
    )


def test_true_and_one_are_different_values() -> None:
    def made(*, value: float) -> bytes:
        points = (Point(name="motion", unit=None, value=value),)
        return Reading(device=HVAC, epoch=1, seq=0, time_us=TAKEN_AT_US, points=points).hash()

    assert made(value=True) != made(value=1)
