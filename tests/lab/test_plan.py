from pathlib import Path

import pytest

from plantroom.lab.flags import Flags
from plantroom.lab.plan import UnmappedError, devices_of
from plantroom.wire.errors import ConfigError

OFFICE = """\
"date","Temperature","Humidity","Light","CO2","HumidityRatio","Occupancy"
"1","2015-02-04 17:51:00",23.18,27.272,426,721.25,0.00479298817650529,1
"""
MINE = "when,degrees\n2020-01-01 00:00:00,1\n"
MAP = """\
[[mapping]]
name = "cellar"
device = "cellar-001"
kind = "hvac"
time = { column = "when", format = "iso", timezone = "UTC" }
[mapping.columns]
degrees = { unit = "Cel" }
"""


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_recording_gets_the_name_of_its_mapping(tmp_path: Path) -> None:
    (device,) = devices_of(Flags(devices=0, replays=(write(tmp_path, "a.csv", OFFICE),)))
    assert (device.name, device.kind, device.map_file) == ("office-001", "occupancy", None)


def test_the_same_mapping_twice_gives_two_names(tmp_path: Path) -> None:
    csv = write(tmp_path, "a.csv", OFFICE)
    assert [one.name for one in devices_of(Flags(devices=0, replays=(csv, csv)))] == [
        "office-001",
        "office-002",
    ]


def test_a_mapping_of_ones_own_goes_before_those_that_ship(tmp_path: Path) -> None:
    map_file = write(tmp_path, "map.toml", MAP)
    replays = (write(tmp_path, "mine.csv", MINE), write(tmp_path, "office.csv", OFFICE))
    devices = devices_of(Flags(devices=1, replays=replays, map_file=map_file))
    assert [(one.name, one.map_file) for one in devices] == [
        ("hvac-001", None),
        ("cellar-001", map_file),
        ("office-001", None),
    ]


def test_a_recording_without_a_mapping_gets_a_proposal(tmp_path: Path) -> None:
    csv = write(tmp_path, "mine.csv", MINE)
    with pytest.raises(UnmappedError, match=r"mine\.csv.*--map") as caught:
        devices_of(Flags(devices=0, replays=(csv,)))
    proposal = write(tmp_path, "proposal.toml", caught.value.proposal)
    (device,) = devices_of(Flags(devices=0, replays=(csv,), map_file=proposal))
    assert device.name == "mine"


def test_a_mapping_that_wants_another_column_says_which(tmp_path: Path) -> None:
    map_file = write(tmp_path, "map.toml", MAP.replace("degrees", "kelvin"))
    with pytest.raises(ConfigError, match="kelvin"):
        devices_of(Flags(devices=0, replays=(write(tmp_path, "m.csv", MINE),), map_file=map_file))


def test_a_broken_map_file_is_named(tmp_path: Path) -> None:
    map_file = write(tmp_path, "map.toml", "[[mapping")
    with pytest.raises(ConfigError, match=r"map\.toml"):
        devices_of(Flags(devices=0, replays=(write(tmp_path, "o.csv", OFFICE),), map_file=map_file))


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv"):
        devices_of(Flags(devices=0, replays=(str(tmp_path / "none.csv"),)))
