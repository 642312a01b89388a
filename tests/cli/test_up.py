from pathlib import Path

import pytest

from plantroom.cli import up as module
from plantroom.lab.flags import Given
from plantroom.lab.layout import Layout
from plantroom.lab.up import Goal
from tests.cli.conftest import Run

ADDRESSES = {
    "dashboard": "http://127.0.0.1:18835/",
    "gateway": {"mqtt": "mqtts://127.0.0.1:18830", "http": "http://127.0.0.1:18832"},
    "cloud": {"mqtt": "mqtts://127.0.0.1:18833", "http": "http://127.0.0.1:18835"},
    "state": "/state",
    "inspector": {"cert": "/cert.pem", "key": "/key.pem", "ca": "/ca.pem"},
    "pids": {},
}


class Called:
    """Stands in for the life of a building; keeps what it was asked."""

    def __init__(self) -> None:
        self.given = Given()
        self.goal = Goal()

    def __call__(self, _layout: Layout, given: Given, goal: Goal, voice: module._Voice) -> int:
        self.given, self.goal = given, goal
        voice.tell("gateway was killed by SIGKILL, started again in 0.5 s")
        voice.ready(ADDRESSES)
        return 0


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    stand_in = Called()
    monkeypatch.setattr(module, "up", stand_in)
    return stand_in


def test_a_flag_that_is_not_given_is_not_made_up(run: Run, called: Called) -> None:
    assert run("up").code == 0
    assert called.given == Given()
    assert called.goal == Goal()


def test_every_flag_arrives_and_paths_become_absolute(
    run: Run, called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(
        *("up", "--replay", "a.csv", "--replay", "b.csv", "--map", "m.toml", "--speed", "6000"),
        *("--devices", "2", "--seed", "5", "--port-base", "20000", "--duration", "3"),
        *("--identity", "workload-api", "--building-socket", "b.sock"),
        *("--cloud-socket", "unix:/c.sock", "--exit-when-stored"),
        *("--socket-owner", "spire"),
    )
    assert called.given == Given(
        replays=(str(tmp_path / "a.csv"), str(tmp_path / "b.csv")),
        map_file=str(tmp_path / "m.toml"),
        devices=2,
        speed=6000.0,
        seed=5,
        port_base=20000,
        identity="workload-api",
        building_socket=str(tmp_path / "b.sock"),
        cloud_socket="/c.sock",
        socket_owner="spire",
    )
    assert called.goal == Goal(duration_s=3.0, stored=True)


@pytest.mark.usefixtures("called")
def test_a_person_is_told_where_everything_is(run: Run) -> None:
    ran = run("up")
    for part in ("http://127.0.0.1:18835/", "port 18830", "/ca.pem", "/key.pem", "Ctrl-C"):
        assert part in ran.out
    assert ran.err == "plantroom: gateway was killed by SIGKILL, started again in 0.5 s\n"


@pytest.mark.usefixtures("called")
def test_a_script_gets_one_line(run: Run) -> None:
    assert run("up", "--json").out.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--speed", "0"),
        ("--speed", "nan"),
        ("--devices", "-1"),
        ("--devices", "100000"),
        ("--port-base", "80"),
        ("--port-base", "65535"),
        ("--duration", "-1"),
    ],
)
def test_a_flag_out_of_range_is_named(run: Run, called: Called, words: tuple[str, str]) -> None:
    ran = run("up", *words)
    assert ran.code == 2
    assert words[0] in ran.err
    assert called.given == Given()
