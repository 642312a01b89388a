import csv
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from plantroom.device import mapping
from plantroom.device.drivers.replay import LAG_US_MAX, ReplayDriver, make
from plantroom.device.settings import DeviceSettings, ReplaySettings, SamplingSettings
from plantroom.wire.errors import ConfigError, UnreachableError, UsageError
from plantroom.wire.reading import Reading
from tests.device.stand_ins import FakeClock, open_outbox

DATA = Path(__file__).parents[4] / "shared" / "data"
ROOM_MAP = """
[[mapping]]
name = "room"
device = "room-1"
kind = "hvac"
time = { column = "t", format = "iso", timezone = "UTC" }
[mapping.columns]
x = { unit = "Cel" }
note = { type = "text" }
"""
S = 1_000_000


class Room:
    """A small recording, its driver, and what was reported."""

    def __init__(
        self,
        folder: Path,
        rows: str,
        *,
        speed: float = 1,
        period_s: float = 60,
        zone: str = "UTC",
    ) -> None:
        self.path = folder / "room.csv"
        if rows:
            self.path.write_text("t,x,note\n" + rows, encoding="utf-8")
        (folder / "map.toml").write_text(ROOM_MAP.replace("UTC", zone), encoding="utf-8")
        self.clock = FakeClock()
        self.reports: list[str] = []
        self.driver = ReplayDriver(
            self.path,
            mapping.find(self.path, folder / "map.toml"),
            period_s=period_s,
            speed=speed,
            clock=self.clock,
            report=self.reports.append,
        )
        self.position: str | None = None

    def take(self, count_max: int = 100) -> list[dict[str, object]]:
        values = []
        for one in self.driver.take(count_max):
            self.position = one.position
            if one.sample is not None:
                points: dict[str, object] = {p.name: p.value for p in one.sample.points}
                values.append(points | {"time_us": one.sample.time_us})
        return values

    def all(self) -> list[object]:
        xs: list[object] = []
        while (due_us := self.driver.due_in_us()) is not None:
            self.clock.pass_s(due_us / S)
            xs += [values.get("x") for values in self.take()]
        return xs


def minute(number: int) -> str:
    return f"2026-01-01 00:{number:02}:00"


def rows(*minutes: int) -> str:
    return "".join(f"{minute(n)},{n}.5,n{n}\n" for n in minutes)


def test_rows_come_with_their_own_time_and_values(tmp_path: Path) -> None:
    room = Room(tmp_path, rows(0))
    room.driver.resume(None)
    assert room.take() == [{"x": 0.5, "note": "n0", "time_us": 1_767_225_600 * S}]


def test_pace_is_the_recorded_gap_but_a_long_gap_is_not_waited_out(tmp_path: Path) -> None:
    room = Room(tmp_path, rows(0, 1, 30, 30), speed=2, period_s=300)
    room.driver.resume(None)
    waits = []
    while (due_us := room.driver.due_in_us()) is not None:
        waits.append(due_us / S)
        room.clock.pass_s(due_us / S)
        room.take(1)
    # one minute at twice the pace, then the longest wait, then a repeated timestamp, then the end
    assert waits == [0, 30, 150, 0, 0]


def test_time_that_runs_backwards_is_kept_and_not_waited_for(tmp_path: Path) -> None:
    room = Room(tmp_path, rows(5, 3, 4))
    room.driver.resume(None)
    assert room.all() == [5.5, 3.5, 4.5]


@pytest.mark.parametrize("step_min", [10, 30, 60])
def test_hour_that_summer_time_gives_twice_is_two_hours_also_after_a_restart(
    tmp_path: Path, step_min: int
) -> None:
    begin = datetime(2016, 10, 29, 22, tzinfo=UTC)
    times = [begin + timedelta(minutes=step_min * number) for number in range(300 // step_min)]
    local = [time.astimezone(ZoneInfo("Europe/Brussels")) for time in times]
    rows = "".join(f"{time:%Y-%m-%d %H:%M:%S},1,n\n" for time in local)
    position: str | None = None
    found = []
    for _ in times:  # a restart before every row
        room = Room(tmp_path, rows, zone="Europe/Brussels")
        room.driver.resume(position)
        (values,) = room.take(1)
        position = room.position
        found.append(values["time_us"])
    assert found == [int(time.timestamp()) * S for time in times]


def test_slow_moment_is_made_up_for_but_a_long_wait_is_not(tmp_path: Path) -> None:
    room = Room(tmp_path, rows(*range(20)), speed=600)  # ten rows a second
    room.driver.resume(None)
    room.clock.pass_s(0.35)
    assert len(room.take()) == 4
    room.clock.pass_s(LAG_US_MAX / S + 5)
    assert len(room.take()) == 1


def test_broken_rows_and_cells_are_named_and_the_rest_is_replayed(tmp_path: Path) -> None:
    text = (
        f"{minute(0)},0.5,ok\n"
        f"never,1.5,ok\n"
        f"{minute(2)},2.5\n"
        f'"{minute(3)}", "3.5" ,"a, ""b"""\n'
        f"{minute(3)},  3.5,repeated\n"
        f"{minute(5)},five,only the text\n"
        f'"{minute(6)},6.5,open\n'
        f"{minute(7)},nan,\n"
        f"{minute(8)},8.5,{'x' * 2000}\n"
    )
    room = Room(tmp_path, text)
    room.driver.resume(None)
    assert room.all() == [0.5, 3.5, 3.5, None, 8.5]
    where = [report.split(": ", 1)[0].removeprefix(f"{room.path}:") for report in room.reports]
    assert where == ["3:1", "4:24", "7:21", "8:1", "9:21", "9:25", "9:1", "10:25"]
    info = room.driver.info()
    assert (info["rows"], info["rejected"], info["rejected_cells"]) == ("5", "4", "4")
    assert info["replay"] == "done"


def test_what_was_counted_survives_a_restart_and_is_counted_once(tmp_path: Path) -> None:
    text = rows(0) + "bad,1,x\n" + rows(2) + "worse,1,x\n"
    first = Room(tmp_path, text)
    first.driver.resume(None)
    first.take(1)
    second = Room(tmp_path, "")
    second.driver.resume(first.position)
    assert second.all() == [2.5]
    assert second.driver.info()["rejected"] == "2"
    third = Room(tmp_path, "")
    third.driver.resume(second.position)
    assert third.all() == []
    info = third.driver.info()
    assert (info["rows"], info["rejected"], info["replay"]) == ("2", "2", "done")


def test_recording_that_has_grown_goes_on_after_a_restart(tmp_path: Path) -> None:
    first = Room(tmp_path, rows(0, 1))
    first.driver.resume(None)
    assert first.all() == [0.5, 1.5]
    with first.path.open("a") as file:
        file.write(rows(2))
    second = Room(tmp_path, "")
    second.driver.resume(first.position)
    assert second.all() == [2.5]


def test_another_recording_under_the_same_name_is_refused(tmp_path: Path) -> None:
    first = Room(tmp_path, rows(0, 1, 2))
    first.driver.resume(None)
    first.take(1)
    other = Room(tmp_path, rows(5, 1, 2))
    with pytest.raises(ConfigError, match=r"room\.csv"):
        other.driver.resume(first.position)


def test_a_change_far_behind_the_last_row_is_noticed_too(tmp_path: Path) -> None:
    first = Room(tmp_path, rows(*range(50)))
    first.driver.resume(None)
    first.clock.pass_s(60)
    first.take(1)
    for _ in range(39):
        first.clock.pass_s(60)
        first.take(1)
    other = Room(tmp_path, rows(*range(50)).replace("3.5,n3\n", "9.5,n3\n", 1))
    with pytest.raises(ConfigError, match=r"changed before line 4\d"):
        other.driver.resume(first.position)


def test_state_of_a_simulated_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="simulated"):
        Room(tmp_path, rows(0)).driver.resume(json.dumps({"driver": "simulated"}))


def test_column_that_is_not_mapped_is_said(tmp_path: Path) -> None:
    (tmp_path / "room.csv").write_text("t,x,note,more\n" + f"{minute(0)},1,a,b\n")
    room = Room(tmp_path, "")
    room.driver.resume(None)
    assert room.reports == [f"{room.path}:1: column 'more' is not mapped and not replayed"]


def test_fresh_reading_is_the_next_row_and_then_there_is_none(tmp_path: Path) -> None:
    room = Room(tmp_path, rows(0, 1))
    room.driver.resume(None)
    fresh = [room.driver.fresh().sample for _ in range(2)]
    assert [one.points[1].value for one in fresh if one] == [0.5, 1.5]
    with pytest.raises(UnreachableError, match="ended"):
        room.driver.fresh()


def test_driver_is_made_from_settings_and_names_an_unknown_recording(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,x\n2026-01-01,1\n")
    settings = DeviceSettings(
        sampling=SamplingSettings(driver="replay"),
        replay=ReplaySettings(file=str(tmp_path / "a.csv")),
    )
    with pytest.raises(UsageError, match="--map"):
        make(settings, FakeClock(), print)


def expected(path: Path) -> list[dict[str, object]]:
    """Read a real recording with the standard library's own parser, another one than ours."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file, skipinitialspace=True)
        header = next(reader)
        wanted: list[dict[str, object]] = []
        for row in reader:
            cells = dict(zip(header, row[len(row) - len(header) :], strict=True))
            moment = datetime.fromisoformat(cells.pop("date")).replace(tzinfo=UTC)
            values: dict[str, object] = {"date": int(moment.timestamp()) * S}
            for name, text in cells.items():
                plain = text.strip()
                values[name] = plain if name in {"WeekStatus", "Day_of_week"} else float(plain)
            wanted.append(values)
    return wanted


def as_row(reading: Reading) -> dict[str, object]:
    return {p.name: p.value for p in reading.points} | {"date": reading.time_us}


@pytest.mark.parametrize(
    ("name", "count", "columns"),
    [
        ("occupancy-datatraining.csv", 8143, 6),
        ("occupancy-datatest.csv", 2665, 6),
        ("appliances-energy.csv", 4932, 31),
    ],
)
def test_every_value_of_a_real_recording_arrives_in_the_outbox(
    tmp_path: Path, name: str, count: int, columns: int
) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the recordings are not part of the project")
    clock = FakeClock()
    reports: list[str] = []
    driver = ReplayDriver(
        path,
        mapping.find(path, None),
        period_s=60,
        speed=6000,
        clock=clock,
        report=reports.append,
    )
    outbox = open_outbox(tmp_path / "o.db", clock, readings_max=10_000, bytes_max=10**8)
    driver.resume(outbox.position)
    while (due_us := driver.due_in_us()) is not None:
        clock.mono += due_us + 500_000
        outbox.append(driver.take(100), displace=False)
    readings = outbox.waiting(10_000)
    assert not reports
    assert len(readings) == count
    assert [reading.seq for reading in readings] == list(range(count))
    assert all(len(reading.points) == columns for reading in readings)
    assert [as_row(reading) for reading in readings] == expected(path)
    outbox.close()


_REPLAYER = """
import sys
from pathlib import Path
from plantroom.device import mapping
from plantroom.device.drivers.replay import ReplayDriver
from plantroom.device.sampler import Sampler
from tests.device.stand_ins import open_outbox
from plantroom.wire.clock import SystemClock
csv, map_file, box = map(Path, sys.argv[1:])
outbox = open_outbox(box, SystemClock(), readings_max=100000)
driver = ReplayDriver(csv, mapping.find(csv, map_file), period_s=60, speed=1e5,
                      clock=SystemClock(), report=lambda text: None)
sampler = Sampler(driver, outbox, say=print)
sampler.start()
while not sampler.ended:
    sampler.step()
    print(outbox.counts.unsent, flush=True)
"""


def test_kill_9_neither_doubles_nor_skips_rows(tmp_path: Path) -> None:
    text = "".join(
        f"2026-01-{1 + n // 1440:02} {n // 60 % 24:02}:{n % 60:02}:00,{n},r\n"
        + "broken\n" * (n % 7 == 3)
        for n in range(3000)
    )
    room = Room(tmp_path, text)
    command = [sys.executable, "-c", _REPLAYER, str(room.path), str(tmp_path / "map.toml")]
    for turn in range(6):
        with subprocess.Popen(
            [*command, str(tmp_path / "o.db")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(2 + 11 * turn):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    subprocess.run([*command, str(tmp_path / "o.db")], check=True, stdout=subprocess.DEVNULL)
    outbox = open_outbox(tmp_path / "o.db", readings_max=100000)
    values = [{p.name: p.value for p in r.points}["x"] for r in outbox.waiting(100000)]
    assert values == list(range(3000))
    last = json.loads(outbox.position or "")
    assert (last["rows"], last["rejected"]) == (3000, sum(n % 7 == 3 for n in range(3000)))
    outbox.close()
