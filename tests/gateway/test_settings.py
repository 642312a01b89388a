from pathlib import Path

import pytest

from plantroom.gateway.app import limits_of, pace_of
from plantroom.gateway.settings import GatewaySettings
from plantroom.wire import settings
from plantroom.wire.errors import ConfigError


def test_the_sample_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(settings.sample(GatewaySettings, "gateway"))
    assert settings.load(GatewaySettings, file, {}) == GatewaySettings()


def test_the_bridges_address_can_be_a_proxys(tmp_path: Path) -> None:
    del tmp_path
    loaded = settings.load(GatewaySettings, None, {"PLANTROOM_BRIDGE_ADDRESS": "127.0.0.1:9"})
    assert loaded.bridge.address == "127.0.0.1:9"


def test_a_policy_for_a_full_queue_that_is_unknown_is_named() -> None:
    with pytest.raises(ConfigError, match="policy"):
        settings.load(GatewaySettings, None, {"PLANTROOM_QUEUE_POLICY": "random"})


def test_units_are_converted_once() -> None:
    loaded = settings.load(
        GatewaySettings,
        None,
        {"PLANTROOM_QUEUE_AGE_S_MAX": "1.5", "PLANTROOM_BRIDGE_LINGER_MS": "20"},
    )
    assert limits_of(loaded).age_us_max == 1_500_000
    assert pace_of(loaded).linger_s == 0.02
