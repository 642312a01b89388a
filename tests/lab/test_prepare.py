"""Preparing without starting: what containers need, and nothing that was there is touched."""

from pathlib import Path

import pytest

from plantroom.lab import prepare
from plantroom.lab.layout import Layout

NAMES = ("hvac-001", "occupancy-001", "energy-001")


def files(state: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and ".db" not in path.name
    }


def test_every_part_gets_its_configuration_and_who_has_no_svid_a_join_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["--state", str(tmp_path)]) == 0
    layout = Layout(tmp_path)
    assert layout.config("gateway").exists()
    assert layout.config("cloud").exists()
    for name in NAMES:
        assert layout.device_config(name).exists()
        assert (layout.device_identity(name) / "join-token").stat().st_mode & 0o777 == 0o600
    assert layout.inspector.cert.exists()
    assert all(name in capsys.readouterr().err for name in ("hvac-001",))


def test_a_second_time_leaves_configurations_and_roots_as_they_are(tmp_path: Path) -> None:
    prepare.main(["--state", str(tmp_path), "--devices", "2"])
    before = files(tmp_path)
    prepare.main(["--state", str(tmp_path), "--devices", "2"])
    after = files(tmp_path)
    assert set(after) == set(before)
    changed = {name for name in before if before[name] != after[name]}
    assert all(name.endswith("join-token") for name in changed)  # the old one is used up in time


def test_a_sensor_gets_nothing_of_another_ones(tmp_path: Path) -> None:
    prepare.main(["--state", str(tmp_path)])
    tokens = {(Layout(tmp_path).device_identity(name) / "join-token").read_text() for name in NAMES}
    assert len(tokens) == 3


def test_what_is_wrong_is_one_line_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "building.json").write_text("{")
    assert prepare.main(["--state", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith("plantroom: ")
