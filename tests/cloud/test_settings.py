import tomllib
from pathlib import Path

import pytest

from plantroom.cloud.settings import CloudSettings, read
from plantroom.wire.errors import ConfigError
from plantroom.wire.settings import load, sample


def test_sample_is_the_defaults(tmp_path: Path) -> None:
    text = sample(CloudSettings, "plantroom cloud")
    file = tmp_path / "cloud.toml"
    file.write_text(text, encoding="utf-8")
    assert load(CloudSettings, file, {}) == CloudSettings()
    assert set(tomllib.loads(text)) == {
        "agent",
        "front",
        "limits",
        "ingest",
        "store",
        "identity",
        "federation",
        "ota",
        "http",
        "views",
        "policy",
        "log",
    }


def test_http_is_for_this_machine_unless_configured_otherwise() -> None:
    http = CloudSettings().http
    assert (http.host, http.tls) == ("127.0.0.1", "auto")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PLANTROOM_HTTP_TLS", "maybe"),
        ("PLANTROOM_FRONT_PORT", "70000"),
        ("PLANTROOM_STORE_KIND", "paper"),
        ("PLANTROOM_INGEST_GROUP_BATCHES_MAX", "0"),
    ],
)
def test_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load(CloudSettings, None, {variable: value})


def test_a_trust_domain_that_is_none_is_said_before_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text('[agent]\ntrust_domain = "BAD!"\n')
    with pytest.raises(ConfigError, match=r"cloud\.toml.*agent\.trust_domain"):
        read(file, {})


def test_who_is_no_issuer_serves_no_workload_api(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text('[identity]\nprovider = "workload-api"\nworkload_socket = "/s"\n')
    with pytest.raises(ConfigError, match=r"workload_socket needs an issuer.*cloud\.toml"):
        read(file, {})
