import os

from plantroom.lab import configs, configuration
from plantroom.lab.building import Device
from plantroom.lab.flags import Flags
from plantroom.lab.layout import Layout
from tests.lab.conftest import DEVICES


def test_what_is_written_is_a_good_configuration(set_up: Layout) -> None:
    configuration.check("gateway", set_up.config("gateway"), {})
    configuration.check("cloud", set_up.config("cloud"), {})
    for device in DEVICES:
        configuration.check("device", set_up.device_config(device.name), {})


def test_a_change_of_ones_own_stays_until_a_flag_changes(set_up: Layout) -> None:
    path = set_up.config("gateway")
    path.write_text(path.read_text() + "\n[queue]\nreadings_max = 500\n")
    configs.prepare(set_up, Flags(devices=2, speed=60.0), DEVICES)
    assert "readings_max" in path.read_text()
    configs.prepare(set_up, Flags(devices=2, port_base=20000), DEVICES)
    assert "readings_max" not in path.read_text()
    assert "20000" in path.read_text()


def test_a_replaying_device_names_its_recording_and_map(layout: Layout) -> None:
    device = Device(
        name="room",
        label="ROOM",
        kind="hvac",
        place="",
        description='a "quoted" name, a \\ and ünïcode',
        replay="/data/room.csv",
        map_file="/data/map.toml",
    )
    configs.prepare(layout, Flags(devices=0, speed=6000.0), (device,))
    path = layout.device_config("room")
    configuration.check("device", path, os.environ)
    text = path.read_text()
    for part in ('file = "/data/room.csv"', 'map = "/data/map.toml"', 'driver = "replay"'):
        assert part in text
