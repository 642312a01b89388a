from pathlib import Path

import pytest

from plantroom.lab.layout import Layout


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"PLANTROOM_STATE": "/from/environment"}
    assert Layout.find("/flag", environ).state == Path("/flag")
    assert Layout.find(None, environ).state == Path("/from/environment")
    assert Layout.find(None, {}).state == tmp_path / ".plantroom"


def test_a_relative_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Layout.find("here", {}).state == tmp_path / "here"
