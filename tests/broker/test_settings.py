import tomllib
from pathlib import Path

import pytest

from plantroom.broker.settings import BrokerSettings
from plantroom.cloud.settings import CloudSettings
from plantroom.gateway.settings import GatewaySettings
from plantroom.wire.errors import ConfigError
from plantroom.wire.settings import load, sample


def test_sample_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text(sample(BrokerSettings, "broker"))
    assert load(BrokerSettings, path, {}) == BrokerSettings()
    assert set(tomllib.loads(path.read_text())) >= {"listen", "limits", "store"}


def test_nobody_may_do_anything_by_default() -> None:
    assert BrokerSettings().access.allow_all is False
    assert BrokerSettings().listen.tls is True


def test_readings_are_not_stopped_by_a_full_log_where_readings_pass() -> None:
    assert GatewaySettings().limits.log_full == "drop"
    assert CloudSettings().limits.log_full == "drop"
    assert BrokerSettings().limits.log_full == "refuse"


def test_limit_out_of_range_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[limits]\nreceive_maximum = 0\n")
    with pytest.raises(ConfigError, match=r"limits\.receive_maximum"):
        load(BrokerSettings, path, {})
