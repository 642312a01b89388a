from pathlib import Path

import pytest

from plantroom.lab import configuration
from plantroom.lab.configuration import KINDS
from plantroom.wire.errors import ConfigError, UsageError


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_explains_every_option_and_is_of_its_kind(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text(configuration.sample(kind))
    assert configuration.kind_of(file) == kind
    configuration.check(kind, file, {})


def test_an_environment_override_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match="PLANTROOM_BROKER_PORT"):
        configuration.check("gateway", file, {"PLANTROOM_BROKER_PORT": "many"})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("device", '[uplink]\naddress = "nohost"\n'),
        ("gateway", '[bridge]\naddress = "nohost"\n'),
        ("cloud", '[agent]\ntrust_domain = "BAD!"\n'),
    ],
)
def test_what_the_process_refuses_the_check_refuses(kind: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.toml"):
        configuration.check(kind, file, {})


@pytest.mark.parametrize("text", ["", "[log]\n"])
def test_a_file_that_says_too_little_needs_the_kind(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match="--kind"):
        configuration.kind_of(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        configuration.kind_of(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        configuration.kind_of(tmp_path / "bad.toml")


def test_rendered_tables_are_toml() -> None:
    assert configuration.render({"a": {"x": 1, "y": "z"}, "b": {"c": True}}) == (
        '[a]\nx = 1\ny = "z"\n\n[b]\nc = true\n'
    )
