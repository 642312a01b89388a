"""`up` and `down` as a user meets them: ports, folders, signals, restarts."""

import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.waiting import until
from tests.system.conftest import Building, Make, alive

SENSOR = "spiffe://building-1.smart.local/agent/hvac-001"


def has_another_pid(building: Building, name: str) -> bool:
    return building.pids().get(name) not in {None, building.ready["pids"][name]}


def one_line(text: str) -> bool:
    return text.startswith("plantroom: ") and text.count("\n") == 1


def test_everything_starts_says_where_and_stops(building: Building) -> None:
    ready = building.start("--speed", "600")
    assert set(ready) == {"dashboard", "gateway", "cloud", "state", "inspector", "pids"}
    assert set(ready["pids"]) == {"gateway", "cloud", "hvac-001", "occupancy-001", "energy-001"}
    for name in ("cert", "key", "ca"):
        assert Path(ready["inspector"][name]).is_file()
    assert Path(ready["inspector"]["key"]).stat().st_mode & 0o077 == 0
    status = building.json("status", "--json")
    assert status["pids"] == ready["pids"]
    online = {one["device"]: one["online"] for one in status["devices"]}
    assert online == dict.fromkeys(("gateway", "hvac-001", "occupancy-001", "energy-001"), True)
    until(
        lambda: building.json("status", "--json")["ledger"]["stored"] >= 30,
        deadline_s=60,
        what="thirty stored readings",
    )
    down = building.run("down")
    assert down.returncode == 0, down.stderr
    assert building.wait(deadline_s=60) == 0
    assert not any(map(alive, ready["pids"].values()))
    assert "killed" not in building.said()
    assert building.run("ledger", "verify").returncode == 0
    assert building.run("status").returncode == 4


def test_ctrl_c_stops_everything_and_a_second_start_continues(building: Building) -> None:
    first = building.start("--devices", "1", "--speed", "600")
    serial = building.json("identity", "svid", "show", SENSOR, "--json")["serial"]
    until(lambda: len(building.export("hvac-001")) > 5, deadline_s=60, what="stored readings")
    assert building.stop(signal.SIGINT) == 0
    assert not any(map(alive, first["pids"].values()))
    before = building.export("hvac-001")
    second = building.start()
    assert set(second["pids"]) == set(first["pids"])
    assert building.json("identity", "svid", "show", SENSOR, "--json")["serial"] == serial
    after = until(
        lambda: (now := building.export("hvac-001"))[len(before) + 5 :] and now,
        deadline_s=60,
        what="further readings",
    )
    assert after[: len(before)] == before
    assert building.run("ledger", "verify").returncode == 0


def test_a_taken_port_is_named_with_the_option(building: Building) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", building.port_base + 4))
        taken.listen(1)
        done = building.run("up", "--port-base", str(building.port_base))
    assert done.returncode == 3
    assert one_line(done.stderr)
    assert str(building.port_base + 4) in done.stderr
    assert "--port-base" in done.stderr


def test_a_state_folder_that_cannot_be_written_is_one_line(make_building: Make) -> None:
    building = make_building()
    building.state.write_text("a file, not a folder")
    done = building.run("up")
    assert done.returncode == 3
    assert one_line(done.stderr)
    assert str(building.state) in done.stderr


def test_a_state_folder_in_use_is_one_line_and_the_building_goes_on(building: Building) -> None:
    building.start("--devices", "1")
    assert building.up is not None
    done = building.run("up", "--port-base", str(building.port_base + 6))
    assert done.returncode == 3
    assert one_line(done.stderr)
    assert str(building.up.pid) in done.stderr
    assert building.json("status", "--json")["ready"] is True


def test_two_buildings_run_side_by_side(make_building: Make) -> None:
    one, other = make_building("one"), make_building("other")
    one.start("--devices", "1")
    other.start("--devices", "1")
    assert not set(one.pids().values()) & set(other.pids().values())
    assert one.stop() == other.stop() == 0


def test_after_a_kill_of_up_itself_nothing_is_left_and_the_next_start_works(
    building: Building,
) -> None:
    ready = building.start("--devices", "1", "--speed", "600")
    until(lambda: building.export("hvac-001"), deadline_s=60, what="stored readings")
    assert building.up is not None
    building.up.kill()
    building.wait(deadline_s=60)
    until(
        lambda: not any(map(alive, ready["pids"].values())),
        deadline_s=60,
        what="the end of the children",
    )
    building.start()
    assert building.stop() == 0
    assert building.run("ledger", "verify").returncode == 0


def test_every_killed_process_is_named_and_comes_back(building: Building) -> None:
    ready = building.start("--devices", "1", "--speed", "600")
    for name in ("hvac-001", "gateway", "cloud"):
        os.kill(ready["pids"][name], signal.SIGKILL)
        until(partial(has_another_pid, building, name), deadline_s=60, what=f"a new {name}")
        assert f"plantroom: {name} was killed by SIGKILL" in building.said()
    before = len(building.export("hvac-001"))
    until(
        lambda: len(building.export("hvac-001")) > before + 5,
        deadline_s=60,
        what="readings after the kills",
    )


def test_a_recording_without_a_mapping_prints_a_proposal(
    building: Building, tmp_path: Path
) -> None:
    recording = tmp_path / "cellar.csv"
    recording.write_text("when,degrees\n2020-01-01 00:00:00,1.5\n2020-01-01 00:01:00,1.25\n")
    done = building.run("up", "--replay", str(recording))
    assert done.returncode == 2
    assert one_line(done.stderr)
    (tmp_path / "map.toml").write_text(done.stdout)
    flags = ("--replay", str(recording), "--map", str(tmp_path / "map.toml"), "--speed", "600")
    building.start(*flags, "--exit-when-stored")
    assert building.wait(deadline_s=60) == 0, building.said() + building.logs()
    rows = [row[1]["degrees"] for row in building.export("cellar")]
    assert rows == ["1.5", "1.25"]


def test_a_duration_ends_it(building: Building) -> None:
    building.start("--devices", "1", "--duration", "1")
    assert building.wait(deadline_s=60) == 0


@pytest.mark.parametrize("kind", ["gateway", "cloud"])
def test_a_child_that_cannot_start_ends_up_with_its_complaint(
    building: Building, kind: str
) -> None:
    building.start("--devices", "1", "--duration", "0")
    assert building.wait(deadline_s=60) == 0
    config = building.state / kind / f"{kind}.toml"
    config.write_text(config.read_text() + "\n[nonsense]\n")
    done = building.run("up")
    assert done.returncode == 3
    assert one_line(done.stderr.replace("\r", ""))
    assert "nonsense" in done.stderr
