import dataclasses
from pathlib import Path

import pytest

from plantroom.device import catalog, updater_setup
from plantroom.device.journal import Journal
from plantroom.device.settings import AgentSettings, DeviceSettings, UpdateSettings
from plantroom.device.updater import Updater
from plantroom.device.updater_record import RECORD_FILE
from plantroom.wire import firmware
from plantroom.wire.errors import ConfigError
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import SimClock


def set_up(state: Path, **updates: object) -> Updater | None:
    settings = DeviceSettings(
        agent=AgentSettings(state=str(state)),
        updates=dataclasses.replace(UpdateSettings(), **updates),  # type: ignore[arg-type]
    )
    return updater_setup.set_up(
        settings,
        catalog.installer,
        clock=SimClock(),
        journal=Journal(level="ERROR", target="stderr", name="x"),
        restart=lambda _why: None,
    )


def test_without_a_trust_document_updates_are_off(tmp_path: Path) -> None:
    assert set_up(tmp_path) is None
    assert not (tmp_path / "firmware").exists()


def test_with_one_it_counts_this_boot_and_runs_what_it_was_made_with(tmp_path: Path) -> None:
    (tmp_path / updater_setup.TRUST_FILE).write_bytes(Author().trust())
    for _ in range(2):
        updater = set_up(tmp_path, factory_version="2.5")
        assert updater is not None
        assert updater.running.version == "2.5"
    assert updater is not None
    assert updater._installer.record.boots == 2
    updater.stop()


def test_the_class_is_the_kind_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / updater_setup.TRUST_FILE).write_bytes(Author().trust())
    one, other = set_up(tmp_path), set_up(tmp_path, class_name="fan", vendor="v.test")
    assert one is not None
    assert other is not None
    assert one._nature.class_id == firmware.class_id("plantroom.example", "hvac")[1]
    assert other._nature.class_id == firmware.class_id("v.test", "fan")[1]
    assert "v1/building-1/ota/fan/manifest" in other.filters


def test_a_trust_document_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "given.cbor"
    file.write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match="no trust document") as caught:
        set_up(tmp_path, trust_file=str(file))
    assert str(file) in str(caught.value)


def test_a_damaged_record_turns_updates_off_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / updater_setup.TRUST_FILE).write_bytes(Author().trust())
    assert set_up(tmp_path) is not None
    (tmp_path / "firmware" / RECORD_FILE).write_bytes(b"rubbish")
    assert set_up(tmp_path) is None
    assert "updates are off" in capsys.readouterr().err
