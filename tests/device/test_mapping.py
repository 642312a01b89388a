from pathlib import Path

import pytest

from plantroom.device import mapping
from plantroom.device.mapping import Column
from plantroom.wire.errors import ConfigError, UsageError

OFFICE = '"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"\n'
ROOM = """
[[mapping]]
name = "room"
device = "room-7"
kind = "hvac"
time = { column = "when", format = "iso", timezone = "UTC" }
[mapping.columns]
"Temp [C]" = { point = "temp", unit = "Cel" }
open = { type = "bool" }

[[mapping]]
name = "meter"
device = "meter-1"
kind = "energy"
decimal = ","
time = { column = "t", format = "unix", timezone = "UTC" }
[mapping.columns]
kWh = { unit = "kWh" }
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def room_map(tmp_path: Path) -> Path:
    return write(tmp_path / "map.toml", ROOM)


def test_shipped_mapping_is_found_by_the_header(tmp_path: Path) -> None:
    found = mapping.find(write(tmp_path / "a.csv", OFFICE), None)
    assert (found.name, found.device, found.timezone) == ("office", "office-001", "UTC")
    assert found.unread(("date", "Temperature", "more")) == ("more",)
    by_point = {column.point: column.unit for column in found.columns}
    assert by_point == {
        "Temperature": "Cel",
        "Humidity": "%RH",
        "Light": "lx",
        "CO2": "ppm",
        "HumidityRatio": "/",
        "Occupancy": "/",
    }


def test_header_with_a_column_more_is_not_what_ships(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.csv.*--map"):
        mapping.find(write(tmp_path / "a.csv", OFFICE.replace("\n", ",extra\n")), None)


def test_every_shipped_mapping_loads() -> None:
    shipped = [one for path in mapping.SHIPPED.glob("*.toml") for one in mapping.load(path)]
    assert {one.name for one in shipped} >= {"office", "house"}


def test_file_may_hold_several_mappings(tmp_path: Path, room_map: Path) -> None:
    rooms = write(tmp_path / "r.csv", "when,Temp [C],open,other\n")
    found = mapping.find(rooms, room_map)
    assert (found.name, found.unread(("when", "Temp [C]", "open", "other"))) == ("room", ("other",))
    assert mapping.find(write(tmp_path / "m.csv", "t;kWh\n"), room_map).name == "meter"


def test_missing_column_is_named_with_file_and_mapping(tmp_path: Path, room_map: Path) -> None:
    rooms = write(tmp_path / "r.csv", "when,Temp [C]\n")
    with pytest.raises(ConfigError) as caught:
        mapping.find(rooms, room_map)
    for word in ("'open'", "'room'", "map.toml", "r.csv:1"):
        assert word in str(caught.value)


def test_column_that_appears_twice_is_named(tmp_path: Path, room_map: Path) -> None:
    with pytest.raises(ConfigError, match="'open' appears 2 times"):
        mapping.find(write(tmp_path / "r.csv", "when,Temp [C],open,open\n"), room_map)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "room"', "name = 7", "name must be text"),
        ('kind = "hvac"', 'kind = "boat"', "kind is 'boat'"),
        ('device = "room-7"', 'device = "a/../b"', "device"),
        ('timezone = "UTC"', 'timezone = "Nowhere"', "Nowhere"),
        ('format = "iso"', 'formt = "iso"', "unknown key formt"),
        ('unit = "Cel"', 'units = "Cel"', "unknown key units"),
        ('point = "temp"', 'point = "a b"', "bad point name"),
        ('point = "temp"', 'point = "open"', "'open' appears twice"),
        ('type = "bool"', 'type = "colour"', "type is 'colour'"),
        ("[[mapping]]", "[extra]\n[[mapping]]", "unknown section [extra]"),
        ("[[mapping]]", "[[mapping", "not TOML"),
        ('decimal = ","', 'decimal = "x"', "decimal is 'x'"),
    ],
)
def test_wrong_mapping_is_named_with_its_file(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in ROOM
    path = write(tmp_path / "map.toml", ROOM.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        mapping.load(path)
    assert says in str(caught.value)


@pytest.mark.parametrize(("count", "says"), [(0, "no columns"), (129, "129 columns")])
def test_no_columns_and_more_than_a_reading_holds_are_named(
    tmp_path: Path, count: int, says: str
) -> None:
    columns = "".join(f"p{n} = {{}}\n" for n in range(count))
    path = write(
        tmp_path / "map.toml",
        '[[mapping]]\nname = "n"\ndevice = "d"\nkind = "hvac"\n'
        'time = { column = "t", format = "iso", timezone = "UTC" }\n'
        f"[mapping.columns]\n{columns}",
    )
    with pytest.raises(ConfigError, match=rf"{says}.*name from 1 to 128"):
        mapping.load(path)


def test_absent_mapping_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        mapping.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("426", 426),
        ("6.2500000000000000e+00", 6.25),
        ("-.5", -0.5),
        ("+3.", 3.0),
        ("12345678901234567", 12345678901234567),
    ],
)
def test_number_is_read_exactly(text: str, value: float) -> None:
    read = Column(column="x", point="x").value(text, ".")
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_000", "0x10", "1,5", "12 W", "--1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="x is"):
        Column(column="x", point="x").value(text, ".")


def test_decimal_comma_text_and_bool() -> None:
    assert Column(column="x", point="x").value("1,5", ",") == 1.5
    assert Column(column="x", point="x", type="text").value("Monday", ".") == "Monday"
    assert Column(column="x", point="x", type="bool").value("ON", ".") is True
    assert Column(column="x", point="x", type="bool").value("0", ".") is False
    with pytest.raises(ValueError, match=r"x is '1\.234', with a point where commas are"):
        Column(column="x", point="x").value("1.234", ",")
    with pytest.raises(ValueError, match="x is a number of 5000 characters"):
        Column(column="x", point="x").value("9" * 5000, ".")
    with pytest.raises(ValueError, match="not true or false"):
        Column(column="x", point="x", type="bool").value("maybe", ".")


def test_proposal_for_an_unknown_recording_can_be_used_as_it_is(tmp_path: Path) -> None:
    recording = write(
        tmp_path / "Boiler room.csv",
        'Zeit;"Temp. Vorlauf";Status;Druck (hPa)\n'
        + "".join(f"21.11.2026 14:{n:02};{n},5;ok;1013,2\n" for n in range(10)),
    )
    proposal = write(tmp_path / "map.toml", mapping.propose(recording))
    found = mapping.find(recording, proposal)
    assert (found.time_column, found.time_format) == ("Zeit", "%d.%m.%Y %H:%M")
    assert found.decimal == ","
    assert [(c.point, c.unit, c.type) for c in found.columns] == [
        ("Temp.-Vorlauf", "Cel", "number"),
        ("Status", None, "text"),
        ("Druck-hPa", None, "number"),
    ]
    assert found.unread(("Zeit", "Temp. Vorlauf", "Status", "Druck (hPa)")) == ()


def test_recording_without_times_has_no_proposal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column holds times"):
        mapping.propose(write(tmp_path / "a.csv", "a,b\n1,2\n3,4\n"))


def test_proposal_for_more_columns_than_a_reading_holds_can_be_used(tmp_path: Path) -> None:
    names, cells = (",".join(f"{n}" for n in ("time", *range(300))) for _ in range(2))
    text = f"{names}\n2026-01-01 00:00:00,{cells.partition(',')[2]}\n"
    wide = write(tmp_path / "wide.csv", text.replace("time,", "time,p", 1))
    proposed = mapping.propose(wide)
    assert "128 points at most: choose among 300" in proposed
    assert len(mapping.find(wide, write(tmp_path / "map.toml", proposed)).columns) == 128


def test_recording_without_rows_says_that_and_not_that_it_has_no_times(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row below the header fits it, a\.csv"):
        mapping.propose(write(tmp_path / "a.csv", "time,x\n"))
