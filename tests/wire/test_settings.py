"""Settings: every error names file, key and remedy; samples and environment mean the same."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.wire import settings
from plantroom.wire.errors import ConfigError
from plantroom.wire.settings import load, option, sample, section


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """Where readings go."""

    address: str = option("gateway:8883", "Host and port of the gateway.")
    keepalive_s: int = option(60, "Seconds between pings.", low=5, high=3600)
    timeout_s: float = option(30.0, "Seconds to wait for an answer.", low=0.1)
    clean: bool = option(False, "Forget the session at the end.")
    level: str = option("WARNING", "How much to log.", choices=("INFO", "WARNING"))
    names: tuple[str, ...] = option(("a", "b"), "Names on the certificate.")
    points: dict[str, str] = option({"read": "reads"}, "Capabilities.")
    folder: str | None = option(None, "Folder, or nothing.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A process."""

    uplink: Uplink = section(Uplink)


def load_text(tmp_path: Path, text: str, **environ: str) -> Uplink:
    path = tmp_path / "device.toml"
    path.write_text(text, encoding="utf-8")
    return load(Settings, path, environ).uplink


def test_defaults_need_no_file() -> None:
    assert load(Settings, None, {}) == Settings()


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    text = '[uplink]\nkeepalive_s = 5\ntimeout_s = 2\nnames = ["c"]\npoints = { x = "y" }\n'
    found = load_text(tmp_path, text)
    assert (found.keepalive_s, found.timeout_s, found.names) == (5, 2.0, ("c",))
    assert isinstance(found.timeout_s, float)
    assert found.points == {"x": "y"}
    assert found.address == "gateway:8883"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[uplnk]", ["unknown section [uplnk]", "did you mean uplink?"]),
        ("[uplink]\nkeepalive = 5", ["unknown key uplink.keepalive", "did you mean keepalive_s?"]),
        ("[uplink]\nzzz = 5", ["unknown key uplink.zzz", "known: address, keepalive_s"]),
        ("uplink = 5", ["[uplink] is not a section", "write [uplink]"]),
        (
            "[uplink]\nkeepalive_s = '5'",
            ["uplink.keepalive_s must be a whole number", "'5' is text"],
        ),
        ("[uplink]\nkeepalive_s = true", ["uplink.keepalive_s must be a whole number", "true or"]),
        ("[uplink]\nkeepalive_s = 5.5", ["uplink.keepalive_s must be a whole number"]),
        ("[uplink]\nkeepalive_s = 4", ["uplink.keepalive_s must be from 5 to 3600", "4 is out of"]),
        ("[uplink]\nkeepalive_s = 3601", ["must be from 5 to 3600"]),
        ("[uplink]\ntimeout_s = 0", ["uplink.timeout_s must be from 0.1", "out of range"]),
        ("[uplink]\ntimeout_s = nan", ["uplink.timeout_s must be a finite number"]),
        ("[uplink]\ntimeout_s = inf", ["uplink.timeout_s must be a finite number"]),
        ("[uplink]\nclean = 1", ["uplink.clean must be true or false"]),
        (
            "[uplink]\nlevel = 'LOUD'",
            ["uplink.level must be one of INFO, WARNING", "'LOUD' is not"],
        ),
        ("[uplink]\nnames = 'a'", ["uplink.names must be a list of texts"]),
        ("[uplink]\nnames = [1]", ["uplink.names must be a list of texts"]),
        ("[uplink]\npoints = { x = 1 }", ["uplink.points must be a table of texts"]),
        ("[uplink]\nfolder = 1", ["uplink.folder must be text"]),
        ("[uplink]\nkeepalive_s = 5\nlevel = @\n", ["not TOML", "line 3", "mend that line"]),
        ("[uplink]\nkeepalive_s = 5\nkeepalive_s = 6", ["not TOML"]),
        ("[uplink", ["not TOML"]),
    ],
)
def test_an_error_names_file_key_and_remedy(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    line = str(caught.value)
    assert caught.value.where.startswith(str(tmp_path / "device.toml"))
    assert caught.value.remedy
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            load(Settings, path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not TOML"):
        load(Settings, binary, {})


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    found = load_text(
        tmp_path,
        "[uplink]\nkeepalive_s = 5\naddress = 'file:1'\n",
        PLANTROOM_UPLINK_KEEPALIVE_S="7",
        PLANTROOM_UPLINK_TIMEOUT_S="1.5",
        PLANTROOM_UPLINK_CLEAN="Yes",
        PLANTROOM_UPLINK_NAMES="x, y,",
        PLANTROOM_UPLINK_POINTS="a=b,c=d=e",
        PLANTROOM_UPLINK_FOLDER="/srv",
        PLANTROOM_OTHER_KEY="ignored: of another process",
    )
    assert (found.keepalive_s, found.timeout_s, found.clean) == (7, 1.5, True)
    assert (found.names, found.points) == (("x", "y"), {"a": "b", "c": "d=e"})
    assert (found.address, found.folder) == ("file:1", "/srv")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("KEEPALIVE_S", "soon", "a whole number"),
        ("KEEPALIVE_S", "1", "from 5 to 3600"),
        ("TIMEOUT_S", "x", "a number"),
        ("TIMEOUT_S", "nan", "a finite number"),
        ("CLEAN", "maybe", "true or false"),
        ("LEVEL", "LOUD", "one of INFO, WARNING"),
        ("POINTS", "a", "a table of texts"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(name: str, value: str, wanted: str) -> None:
    variable = f"PLANTROOM_UPLINK_{name}"
    with pytest.raises(ConfigError) as caught:
        load(Settings, None, {variable: value})
    assert variable in str(caught.value)
    assert wanted in str(caught.value)
    assert caught.value.remedy


def test_a_sample_names_every_option_with_its_doc_and_loads_as_the_defaults(tmp_path: Path) -> None:
    text = sample(Settings, "A sensor.")
    for part in ("# A sensor.", "# Where readings go.", "[uplink]", "keepalive_s = 60"):
        assert part in text.splitlines()
    assert "# Seconds between pings. Range: 5 to 3600." in text
    assert "One of: INFO, WARNING." in text
    assert load_text(tmp_path, text) == Uplink()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_as_a_default_makes_a_sample_that_loads(text: str) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Inner:
        """Inner."""

        word: str = option(text, "A word.")
        table: dict[str, str] = option({text: text}, "A table.")
        words: tuple[str, ...] = option((text,), "Words.")

    assert tomllib.loads(f"x = {settings.toml(text)}") == {"x": text}
    made = Inner()
    assert tomllib.loads(f"x = {settings.toml(made.table)}") == {"x": {text: text}}
    assert tomllib.loads(f"x = {settings.toml(made.words)}") == {"x": [text]}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_as_a_default_makes_a_sample_that_loads(value: float) -> None:
    assert tomllib.loads(f"x = {settings.toml(value)}") == {"x": value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    numbers: tuple[int, ...] = option((0, 7), "Which.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    tpm: Registers = section(Registers)


def test_a_list_of_numbers_is_read_from_file_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text("[tpm]\nnumbers = [1, 2]\n")
    assert load(Chip, path, {}).tpm.numbers == (1, 2)
    assert load(Chip, None, {"PLANTROOM_TPM_NUMBERS": "3, 4"}).tpm.numbers == (3, 4)
    with pytest.raises(ConfigError, match="a list of whole numbers"):
        load(Chip, None, {"PLANTROOM_TPM_NUMBERS": "3, x"})
    path.write_text("[tpm]\nnumbers = [true]\n")
    with pytest.raises(ConfigError, match=r"write it as \[0, 1\]"):
        load(Chip, path, {})
