import json

import pytest

from plantroom.device.drivers.simulated import SimulatedDriver, make
from plantroom.device.settings import DeviceSettings
from plantroom.wire.errors import ConfigError
from plantroom.wire.reading import Sample
from tests.device.stand_ins import NOW_US, FakeClock

S = 1_000_000


def driver(clock: FakeClock, kind: str = "energy", *, speed: float = 1) -> SimulatedDriver:
    return SimulatedDriver(kind, seed=4, period_s=60, speed=speed, clock=clock)


def samples(one: SimulatedDriver) -> tuple[list[Sample], str | None]:
    taken = one.take(1000)
    return [t.sample for t in taken if t.sample], taken[-1].position if taken else None


def value(sample: Sample, point: str) -> float:
    found = next(p.value for p in sample.points if p.name == point)
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        (
            "hvac",
            {
                "temperature": "Cel",
                "humidity": "%RH",
                "fan_speed": "1/min",
                "fan_status": None,
                "power_mode": None,
            },
        ),
        ("occupancy", {"count": "count", "motion": None}),
        ("energy", {"energy": "kWh", "demand": "W"}),
    ],
)
def test_each_kind_has_its_points_and_units(kind: str, points: dict[str, str | None]) -> None:
    (sample,), _ = samples(driver(FakeClock(), kind))
    assert {point.name: point.unit for point in sample.points} == points


def test_first_reading_is_at_once_and_then_one_a_period() -> None:
    clock = FakeClock()
    one = driver(clock)
    assert one.due_in_us() == 0
    assert [s.time_us for s in samples(one)[0]] == [NOW_US]
    assert one.due_in_us() == 60 * S
    clock.pass_s(185)
    assert [s.time_us for s in samples(one)[0]] == [NOW_US + n * 60 * S for n in (1, 2, 3)]


def test_faster_means_more_readings_and_faster_timestamps() -> None:
    clock = FakeClock()
    one = driver(clock, speed=600)
    samples(one)
    clock.pass_s(1)
    times = [s.time_us for s in samples(one)[0]]
    assert times == [NOW_US + n * 60 * S for n in range(1, 11)]


def test_neither_time_nor_meter_goes_backwards_over_a_restart() -> None:
    clock = FakeClock()
    one = driver(clock, speed=6000)
    samples(one)
    clock.pass_s(1)
    before, position = samples(one)
    clock.pass_s(2)
    for speed in (6000, 1):  # an hour and more ahead of the real clock by now
        again = driver(clock, speed=speed)
        again.resume(position)
        after, position = samples(again)
        assert (after[0].time_us or 0) >= (before[-1].time_us or 0)
        assert value(after[0], "energy") >= value(before[-1], "energy")
        before = after


def test_real_pace_follows_the_real_clock() -> None:
    clock = FakeClock()
    one = driver(clock)
    samples(one)
    clock.pass_s(60)
    clock.wall += 1_000_000  # corrected by NTP
    assert [s.time_us for s in samples(one)[0]] == [NOW_US + 61 * S]


def test_without_a_clock_there_is_time_since_boot_until_it_is_set() -> None:
    clock = FakeClock(wall=3_000_000, mono=9_000_000)
    one = driver(clock, "hvac")
    (sample,), _ = samples(one)
    assert (sample.time_us, sample.mono_us) == (None, 9_000_000)
    clock.pass_s(60)
    clock.wall = NOW_US
    (sample,), _ = samples(one)
    assert (sample.time_us, sample.mono_us) == (NOW_US, None)


def test_fresh_reading_is_of_now_and_leaves_the_rhythm_alone() -> None:
    clock = FakeClock()
    one = driver(clock)
    samples(one)
    clock.pass_s(10)
    fresh = one.fresh().sample
    assert fresh is not None
    assert fresh.time_us == NOW_US + 10 * S
    assert one.due_in_us() == 50 * S


def test_state_of_a_replay_is_refused() -> None:
    with pytest.raises(ConfigError, match="replays a recording"):
        driver(FakeClock()).resume(json.dumps({"driver": "replay"}))


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="boat"):
        driver(FakeClock(), "boat")


def test_driver_is_made_from_settings_and_says_what_it_is() -> None:
    one = make(DeviceSettings(), FakeClock(), print)
    assert not one.waits
    assert one.info() == {"simulated": "yes", "missed": "0"}
