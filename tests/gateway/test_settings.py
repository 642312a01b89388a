from pathlib import Path

import pytest

from plantroom.gateway.pace import pace_of
from plantroom.gateway.room import limits_of
from plantroom.gateway.settings import GatewaySettings, HttpSection, read, split_address
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


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:8883", ("127.0.0.1", 8883)), ("[::1]:1", ("::1", 1)), ("cloud:2", ("cloud", 2))],
)
def test_an_address_is_host_and_port(text: str, found: tuple[str, int]) -> None:
    assert split_address(text, "bridge.address") == found


@pytest.mark.parametrize("text", ["", "cloud", "cloud:", ":1", "cloud:0", "cloud:65536", "c:x"])
def test_anything_else_names_its_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"bridge\.address"):
        split_address(text, "bridge.address")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PLANTROOM_AGENT_SITE", "building 1"),
        ("PLANTROOM_AGENT_NAME", "a/b"),
        ("PLANTROOM_AGENT_TRUST_DOMAIN", "BAD!"),
        ("PLANTROOM_BRIDGE_CLOUD_TRUST_DOMAIN", "BAD!"),
        ("PLANTROOM_BRIDGE_ADDRESS", "nohost"),
        ("PLANTROOM_IDENTITY_CLOUD_ENROL_ADDRESS", "host:x"),
    ],
)
def test_what_no_gateway_could_run_with_is_said_before_it_starts(
    variable: str, value: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"gateway\.toml"):
        read(file, {variable: value})


def test_a_gateway_without_a_cloud_needs_no_address() -> None:
    assert not read(None, {"PLANTROOM_BRIDGE_ADDRESS": ""}).bridge.address


@pytest.mark.parametrize(
    ("host", "tls", "needed"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),  # noqa: S104 -- what the check is about
        ("gateway.example", "auto", True),
        ("0.0.0.0", "off", False),  # noqa: S104
        ("127.0.0.1", "on", True),
    ],
)
def test_http_is_for_this_machine_unless_it_is_over_tls(
    host: str, tls: str, *, needed: bool
) -> None:
    assert HttpSection(host=host, tls=tls).needs_tls is needed


def test_who_is_no_issuer_serves_no_workload_api(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[identity]\nprovider = "workload-api"\nworkload_socket = "/s"\n')
    with pytest.raises(ConfigError, match=r"workload_socket needs an issuer.*gateway\.toml"):
        read(file, {})
