"""Recorded rooms through the whole path: what the cloud store has is what the CSV has."""

import contextlib
import itertools
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.waiting import until
from tests.system.conftest import Building, recording
from tests.system.judge import judge, recorded

OFFICE, HOUSE = "occupancy-datatraining.csv", "appliances-energy.csv"
DEVICES = {OFFICE: "office-001", HOUSE: "house-001"}
ROWS, SLOW = 4000, 1200  # of one row a minute: 200 s, which no test waits for


@dataclass(frozen=True)
class Slice:
    """The first rows of a recording, as a file of their own."""

    path: Path
    device: str


def slice_of(name: str, rows: int, folder: Path) -> Slice:
    path = folder / f"{rows}-{name}"
    with recording(name).open(encoding="utf-8") as file:
        path.write_text("".join(itertools.islice(file, rows + 1)), encoding="utf-8")
    return Slice(path, DEVICES[name])


def flags(slices: Sequence[Slice], speed: int) -> list[str]:
    replays = itertools.chain.from_iterable(("--replay", str(one.path)) for one in slices)
    return [*replays, "--speed", str(speed), "--exit-when-stored"]


def assert_equal(building: Building, slices: Sequence[Slice]) -> None:
    """The judge says that nothing is missing, double, in disorder or changed; so do the books."""
    for one in slices:
        verdict = judge(recorded(one.path), building.export(one.device))
        assert verdict.passed, f"{one.device}: {verdict}"
    verified = building.run("ledger", "verify")
    assert verified.returncode == 0, verified.stderr


def test_every_value_of_every_row_is_in_the_cloud_store(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, 400, tmp_path), slice_of(HOUSE, 100, tmp_path)]
    building.start(*flags(slices, 60_000))
    assert building.wait(deadline_s=90) == 0, building.said() + building.logs()
    assert_equal(building, slices)


@pytest.mark.timeout(300)
def test_kills_of_every_process_lose_and_double_nothing(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, ROWS, tmp_path), slice_of(HOUSE, ROWS // 10, tmp_path)]
    chance = random.Random(3)  # noqa: S311 -- a schedule that can be repeated
    building.start(*flags(slices, SLOW)[:-1])
    victims = ["gateway", "cloud", slices[0].device, slices[1].device] * 2
    chance.shuffle(victims)
    for name in victims:
        go_on(building, chance.uniform(0.2, 2.0))
        building.kill(name)
    until(
        lambda: building.said().count("was killed by SIGKILL") == len(victims),
        deadline_s=60,
        what="a word about every kill",
    )
    stop_in_the_middle(building, slices)
    building.start("--speed", "60000", "--exit-when-stored")
    assert building.wait(deadline_s=200) == 0, building.said() + building.logs()
    assert_equal(building, slices)


def go_on(building: Building, pause_s: float) -> None:
    """Let the replay go on for a moment, or to its end."""
    assert building.up is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        building.up.wait(pause_s)


def stop_in_the_middle(building: Building, slices: Sequence[Slice]) -> None:
    """Stop once something is stored; at `SLOW` that is minutes before everything is."""
    device = slices[0].device
    until(lambda: building.export(device), deadline_s=60, what="stored readings")
    assert building.stop() == 0
    assert 0 < len(building.export(device)) < ROWS


def test_a_second_start_goes_on_where_the_first_stopped(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, ROWS, tmp_path)]
    building.start(*flags(slices, SLOW))
    stop_in_the_middle(building, slices)
    building.start("--speed", "60000", "--exit-when-stored")
    assert building.wait(deadline_s=200) == 0, building.said() + building.logs()
    assert_equal(building, slices)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_both_recordings_whole(building: Building, tmp_path: Path) -> None:
    slices = [slice_of(OFFICE, 10_000, tmp_path), slice_of(HOUSE, 10_000, tmp_path)]
    building.start(*flags(slices, 1_000_000))
    assert building.wait(deadline_s=800) == 0, building.said() + building.logs()
    assert_equal(building, slices)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_both_recordings_whole_with_a_kill_every_few_seconds(
    building: Building, tmp_path: Path
) -> None:
    slices = [slice_of(OFFICE, 10_000, tmp_path), slice_of(HOUSE, 10_000, tmp_path)]
    chance = random.Random(11)  # noqa: S311 -- a schedule that can be repeated
    building.start(*flags(slices, 3000)[:-1])
    for _ in range(30):
        go_on(building, chance.uniform(0.5, 4.0))
        building.kill(chance.choice(["gateway", "cloud", *(one.device for one in slices)]))
    assert building.stop() == 0
    building.start("--speed", "1000000", "--exit-when-stored")
    assert building.wait(deadline_s=800) == 0, building.said() + building.logs()
    assert_equal(building, slices)
