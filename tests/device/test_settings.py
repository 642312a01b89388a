import tomllib
from pathlib import Path

import pytest

from plantroom.device.settings import DeviceSettings, host_port, read
from plantroom.wire.errors import ConfigError
from plantroom.wire.settings import sample


def test_defaults_are_the_hvac_sensor_of_the_building() -> None:
    settings = read(None, {})
    assert str(settings.spiffe_id) == "spiffe://building-1.smart.local/agent/hvac-001"
    assert settings.site == "building-1"
    assert (settings.agent.device_label, settings.agent.place) == (
        "HVAC-SENSOR-001",
        "Floor-2-Zone-A",
    )
    assert (settings.buffer.readings_max, settings.sampling.period_s) == (1000, 60)


def test_every_setting_of_a_constrained_device_has_its_key() -> None:
    settings = DeviceSettings()
    assert settings.identity.lightweight is True
    assert settings.identity.svid_cache_size == 1
    assert settings.identity.bundle_refresh_s == 3600
    assert settings.policy.cache_ttl_s == 300
    assert settings.tls.minimum_version == "1.3"
    assert settings.tls.connection_reuse is True
    assert settings.uplink.keepalive_s == 60
    assert (settings.server.enabled, settings.server.port) == (False, 8443)
    assert (settings.server.connections_max, settings.server.request_timeout_s) == (5, 30)
    assert settings.metrics.enabled is False
    assert (settings.log.level, settings.log.target) == ("WARNING", "syslog")


def test_sample_is_read_back_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text(sample(DeviceSettings, "A sensor"), encoding="utf-8")
    assert read(path, {}) == DeviceSettings()
    assert set(tomllib.loads(path.read_text())) >= {"agent", "capabilities", "buffer", "log"}


def test_environment_comes_before_the_file() -> None:
    assert read(None, {"PLANTROOM_UPLINK_ADDRESS": "gw:1884"}).uplink.address == "gw:1884"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[agent]\nname = "a/b"', "topic level"),
        ('[agent]\nname = "a b"', "[agent]"),
        ('[agent]\ntrust_domain = "No"', "trust domain"),
        ('[identity]\ngateway_id = "gateway"', "spiffe://"),
        ('[uplink]\naddress = "gateway"', "host:port"),
        ('[uplink]\naddress = "gateway:99999"', "host:port"),
        ("[uplink]\nprotocol = 3", "4 to 5"),
        ('[policy]\nendpoint = "http://x"', "policy.endpoint"),
        ('[sampling]\ndriver = "replay"', "replay.file"),
        ("[buffer]\nreadings_max = 0", "readings_max"),
        ('[log]\nlevel = "LOUD"', "log.level"),
        ('[capabilities]\ndance = "x"', "capabilities.dance"),
    ],
)
def test_wrong_setting_is_named_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path, {})
    assert says in str(caught.value)
    assert "device.toml" in str(caught.value)


def test_addresses_are_split() -> None:
    assert host_port("gw.local:1883") == ("gw.local", 1883)
    assert host_port("[::1]:1883") == ("::1", 1883)
