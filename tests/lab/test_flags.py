from pathlib import Path

import pytest

from plantroom.lab import flags
from plantroom.lab.flags import WORKLOAD_API, Flags, Given
from plantroom.wire.errors import ConfigError


def test_without_any_flag_a_new_building_has_three_simulated_sensors(tmp_path: Path) -> None:
    assert Given().over(flags.load(tmp_path / "building.json")) == Flags(devices=3)


def test_a_flag_that_is_not_given_keeps_its_last_value() -> None:
    last = Flags(replays=("/a.csv",), devices=0, speed=60.0, seed=7, port_base=20000)
    assert Given().over(last) == last
    assert Given(speed=1.0).over(last) == Flags(
        replays=("/a.csv",), devices=0, speed=1.0, seed=7, port_base=20000
    )


def test_who_issues_svids_is_kept_too() -> None:
    given = Given(
        identity=WORKLOAD_API, building_socket="/b", cloud_socket="/c", socket_owner="spire"
    )
    last = given.over(Flags())
    assert (last.identity, last.building_socket, last.cloud_socket) == (WORKLOAD_API, "/b", "/c")
    assert last.socket_owner == "spire"
    assert Given().over(last) == last
    assert Given(identity="embedded").over(last).identity == "embedded"


def test_with_replay_the_simulated_devices_default_to_none() -> None:
    assert Given(replays=("/a.csv",)).over(Flags(devices=5)).devices == 0
    assert Given(replays=("/a.csv",), devices=2).over(Flags()).devices == 2


def test_devices_alone_end_the_replays_of_the_last_start() -> None:
    last = Flags(replays=("/a.csv",), map_file="/map.toml", devices=0)
    assert Given(devices=3).over(last) == Flags(devices=3)


def test_flags_come_back_as_they_were_saved(tmp_path: Path) -> None:
    wanted = Flags(
        replays=("/a.csv", "/b.csv"),
        map_file="/m",
        devices=0,
        speed=0.5,
        seed=2,
        identity=WORKLOAD_API,
        building_socket="/b",
        cloud_socket="/c",
    )
    flags.save(tmp_path / "building.json", wanted)
    assert flags.load(tmp_path / "building.json") == wanted


@pytest.mark.parametrize("text", ["", "{", "[]", '{"speed": "fast"}'])
def test_a_file_that_is_not_ours_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "building.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        flags.load(path)
