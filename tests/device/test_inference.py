import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.device.inference import legal_name, proposal, quoted, time_column, unit_of
from plantroom.wire.errors import UsageError
from plantroom.wire.reading import Point


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("Temperature", "Cel"),
        ("T1", "Cel"),
        ("RH_out", "%RH"),
        ("HumidityRatio", "/"),
        ("CO2", "ppm"),
        ("Press_mm_hg", "mmHg"),
        ("meter_kWh", "kWh"),
        ("Windspeed", "m/s"),
        ("colour", None),
    ],
)
def test_usual_names_have_usual_units(name: str, unit: str | None) -> None:
    assert unit_of(name) == unit


@given(st.text())
def test_any_text_gives_a_name_that_a_point_may_have(text: str) -> None:
    Point(name=legal_name(text), unit=None, value=0)


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF)))
def test_quoted_text_is_read_back_by_toml(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}


def test_time_column_is_found_although_a_row_is_broken() -> None:
    rows = [[str(n), f"2026-01-01 00:{n:02}:00"] for n in range(20)] + [["20", "never"]]
    assert time_column(["n", "stamp"], rows) == ("stamp", "iso")


def test_counting_numbers_are_no_times() -> None:
    assert time_column(["n"], [[str(n)] for n in range(10)]) is None
    with pytest.raises(UsageError, match=r"x\.csv"):
        proposal("x.csv", ["n"], [["1"]])


def test_columns_without_a_name_of_their_own_are_mentioned() -> None:
    row = ["2026-01-01 00:00:00", "1", "2", "3", "4"]
    text = proposal("x.csv", ["time", "", "a", "a", "b"], [row])
    assert "# column 2 has no name of its own" in text
    assert "# column 4 has no name of its own" in text
    tomllib.loads(text + "\n")


def test_columns_that_all_have_no_name_of_their_own_give_no_proposal() -> None:
    with pytest.raises(UsageError, match="no column besides the times"):
        proposal("x.csv", ["time", "a", "a"], [["2026-01-01 00:00:00", "2", "3"]])


def test_one_odd_cell_does_not_make_text_of_numbers_and_is_said() -> None:
    rows = [[f"2026-01-01 00:{n:02}:00", str(n), "NA"] for n in range(20)]
    rows[7][1] = "n/a"
    text = proposal("x.csv", ["time", "a", "b"], rows)
    assert '"a" = {}  # such as 0; not "n/a", such cells will be left out' in text
    assert '"b" = { type = "text" }' in text


def test_day_and_month_that_could_be_the_other_way_round_are_said() -> None:
    both = proposal("x.csv", ["t", "a"], [["01/02/2026 00:00", "1"]])
    assert '# day and month could be the other way round: format = "%m/%d/%Y %H:%M"' in both
    assert "other way" not in proposal("x.csv", ["t", "a"], [["13/02/2026 00:00", "1"]])
