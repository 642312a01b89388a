import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from plantroom.lab import lock, running, setup
from plantroom.lab.child import GoneError
from plantroom.lab.clocks import AheadError
from plantroom.lab.flags import Flags, Given
from plantroom.lab.layout import Layout
from plantroom.lab.plan import UnmappedError
from plantroom.lab.up import Goal, _Life, _Plan, up
from plantroom.wire.errors import ConfigError, StorageFullError


class Silent:
    """A voice that nobody hears."""

    def tell(self, text: str) -> None:
        raise AssertionError(text)

    def progress(self, text: str) -> None:
        raise AssertionError(text)

    def ready(self, addresses: dict[str, Any]) -> None:
        raise AssertionError(addresses)


def start(layout: Layout, given: Given) -> None:
    up(layout, given, Goal(), Silent())


def test_a_taken_port_is_found_before_anything_is_set_up(layout: Layout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(ConfigError, match="--port-base"):
            start(layout, Given(port_base=taken.getsockname()[1]))
    assert not layout.gateway.exists()
    assert not layout.building.exists()


def test_a_folder_in_use_is_found_before_its_flags_are_read(layout: Layout) -> None:
    with lock.held(layout):
        layout.building.write_text("damaged")
        with pytest.raises(ConfigError, match="is running here already"):
            start(layout, Given())


def test_a_recording_without_a_mapping_is_found_before_anything_is_set_up(
    layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("when,what\n2020-01-01 00:00:00,1\n")
    with pytest.raises(UnmappedError):
        start(layout, Given(replays=(str(tmp_path / "x.csv"),)))
    assert not layout.gateway.exists()


def test_a_full_disk_stops_no_building_and_is_named_once(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    voice = Silent()
    monkeypatch.setattr(voice, "tell", told.append)
    life = _Life(layout, _Plan(flags=Flags(), devices=(), admitted=frozenset()), Goal(), voice)

    def full(*_args: object) -> None:
        raise StorageFullError("no space left", where="up.json")

    with monkeypatch.context() as patch:
        patch.setattr(running, "save", full)
        life._publish()
        life._publish()
    assert len(told) == 1
    assert "no space left, up.json" in told[0]
    layout.state.mkdir(parents=True, exist_ok=True)
    life._publish()
    assert layout.running.exists()


def test_a_full_disk_at_the_start_is_one_clear_error(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFullError, match=r"no space left, .*up\.lock"):
        start(layout, Given())


@pytest.mark.parametrize("why", [GoneError("its folder is gone"), AheadError("it was ahead")])
def test_what_ends_a_building_is_set_up_again_and_ready_is_said_once(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, why: ConfigError
) -> None:
    done: list[str] = []
    voice = Silent()
    monkeypatch.setattr(voice, "tell", done.append)
    monkeypatch.setattr(voice, "ready", lambda _addresses: done.append("ready"))

    def prepare(*_arguments: object) -> frozenset[str]:
        layout.state.mkdir(exist_ok=True)
        done.append("set up")
        return frozenset()

    async def run(life: _Life) -> None:
        life._voice.ready({})
        if done.count("set up") == 1:
            raise why

    monkeypatch.setattr(setup, "prepare", prepare)
    monkeypatch.setattr(_Life, "run", run)
    monkeypatch.setattr("plantroom.lab.ports.Ports.check_free", lambda *_, **__: None)
    assert up(layout, Given(devices=0), Goal(), voice) == 0
    first, ready, said, again = done
    assert (first, ready, again) == ("set up", "ready", "set up")
    assert said.startswith(f"{why}: everything was stopped")
