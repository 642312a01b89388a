import pytest

from plantroom.wire.errors import PackError
from plantroom.wire.senml_record import (
    BN,
    BT,
    BU,
    BV,
    VB,
    VD,
    N,
    T,
    V,
    microseconds,
    names,
    not_understood,
    point,
    time_us,
)


def test_names_are_split_at_the_last_slash() -> None:
    assert names({BN: "spiffe://td/agent/x/", N: "temperature"}) == (
        "spiffe://td/agent/x",
        "temperature",
    )
    assert names({N: "temperature"}) == ("", "temperature")


def test_a_point_has_the_base_unit_and_the_sum_of_both_values() -> None:
    found = point({BU: "Cel", BV: 20, N: "a", V: 0.5})
    assert (found.name, found.unit, found.value) == ("a", "Cel", 20.5)
    assert point({N: "a", VB: False}).value is False


def test_data_is_no_value() -> None:
    with pytest.raises(PackError, match="type"):
        point({N: "a", VD: "aGk"})


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({}, (0, False)),
        ({T: -5}, (-5_000_000, False)),
        ({BT: 2**28 - 1, T: 0.5}, (268_435_455_500_000, False)),
        ({BT: 2**28 - 1, T: 1}, (268_435_456_000_000, True)),
    ],
)
def test_a_time_is_relative_below_two_to_the_28(
    record: dict[int, float], found: tuple[int, bool]
) -> None:
    assert time_us(record) == found


@pytest.mark.parametrize("record", [{T: "x"}, {BT: True}, {T: 2**40}, {BT: -(2**28), T: -1}])
def test_what_is_no_time_is_refused(record: dict[int, object]) -> None:
    with pytest.raises(PackError):
        time_us(record)


def test_a_label_that_has_to_be_understood_is_named() -> None:
    assert not_understood({N: "a", "plain": 1, "_": 1}) is not None
    assert not_understood({N: "a", "plain": 1}) is None


def test_microseconds_are_exact() -> None:
    assert microseconds(1_700_000_000.123456) == 1_700_000_000_123_456
