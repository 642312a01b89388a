"""A judge that cannot say no proves nothing: each defect is put in, and found."""

from pathlib import Path

import pytest

from tests.system.judge import Row, exported, judge, recorded

CSV = """\
"date","Temperature","Day"
"1","2015-02-04 17:51:00",23.18," Monday"
"2","2015-02-04 17:52:00"," 6.50e+00",Monday
"3","2015-02-04 17:52:00",7,Monday
"""
EXPORT = """\
time,site,device,point,value,unit,epoch,seq,received_at,late
2015-02-04T17:51:00Z,b,room,Day,Monday,,4,0,x,false
2015-02-04T17:51:00Z,b,room,Temperature,23.18,Cel,4,0,x,false
2015-02-04T17:51:00Z,b,other,Temperature,1,Cel,4,0,x,false
2015-02-04T17:52:00Z,b,room,Day,Monday,,4,1,x,false
2015-02-04T17:52:00Z,b,room,Temperature,6.5,Cel,4,1,x,false
2015-02-04T17:52:00Z,b,room,Day,Monday,,10,0,x,false
2015-02-04T17:52:00Z,b,room,Temperature,7.0,Cel,10,0,x,false
"""


@pytest.fixture
def wanted(tmp_path: Path) -> list[Row]:
    (tmp_path / "a.csv").write_text(CSV)
    return recorded(tmp_path / "a.csv")


@pytest.fixture
def found() -> list[Row]:
    return exported(EXPORT.splitlines(), "room")


def test_an_equal_export_passes(wanted: list[Row], found: list[Row]) -> None:
    verdict = judge(wanted, found)
    assert verdict.passed
    assert str(verdict) == "rows=3 values=6 lost=0 duplicated=0 misordered=0 altered=0"


def test_a_missing_row_is_lost(wanted: list[Row], found: list[Row]) -> None:
    verdict = judge(wanted, [found[0], found[2]])
    assert (len(verdict.lost), verdict.passed) == (1, False)


def test_a_row_that_comes_twice_is_duplicated(wanted: list[Row], found: list[Row]) -> None:
    verdict = judge(wanted, [*found, found[1]])
    assert (len(verdict.duplicated), verdict.passed) == (1, False)


def test_rows_in_another_order_are_misordered(wanted: list[Row], found: list[Row]) -> None:
    verdict = judge(wanted, [found[0], found[2], found[1]])
    assert (len(verdict.misordered), verdict.passed) == (2, False)


def test_another_value_is_altered(wanted: list[Row], found: list[Row]) -> None:
    changed = (found[0][0], {**found[0][1], "Temperature": "23.180001"})
    verdict = judge(wanted, [changed, *found[1:]])
    assert verdict.altered
    assert not verdict.passed


def test_a_missing_value_is_altered(wanted: list[Row], found: list[Row]) -> None:
    verdict = judge(wanted, [(found[0][0], {"Day": "Monday"}), *found[1:]])
    assert verdict.altered
