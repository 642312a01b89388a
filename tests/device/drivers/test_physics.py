import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plantroom.device.drivers import physics
from plantroom.device.drivers.physics import Room, advance

SUNDAY_S = 1_795_305_600.0  # 2026-11-22T00:00:00Z
MONDAY_S = SUNDAY_S + physics.DAY_S
SEEDS = st.integers(0, 2**31)
TIMES = st.floats(1.6e9, 2.5e9)


@given(SEEDS, TIMES)
def test_people_are_few_enough_and_the_same_for_every_sensor(seed: int, time_s: float) -> None:
    assert 0 <= physics.people(seed, time_s) <= physics.PEOPLE_MAX
    assert physics.people(seed, time_s) == physics.people(seed, time_s)
    if physics.motion(seed, time_s):
        assert physics.people(seed, time_s) > 0


@pytest.mark.parametrize("seed", range(5))
def test_people_work_by_day_on_working_days(seed: int) -> None:
    at_eleven = [physics.people(seed, MONDAY_S + day * physics.DAY_S + 39_600) for day in range(5)]
    at_three = [physics.people(seed, MONDAY_S + day * physics.DAY_S + 10_800) for day in range(5)]
    on_sunday = physics.people(seed, SUNDAY_S + 39_600)
    assert min(at_eleven) > 10
    assert max(at_three) == 0
    assert on_sunday < 5


@settings(max_examples=20)
@given(SEEDS, TIMES, st.lists(st.floats(0, 1e5), min_size=1, max_size=4))
def test_meter_never_goes_backwards_and_everything_stays_plausible(
    seed: int, start_s: float, pauses: list[float]
) -> None:
    room = Room(start_s, energy_kwh=5.0)
    for pause in pauses:
        later = advance(room, seed, room.time_s + pause)
        assert later.energy_kwh >= room.energy_kwh
        assert 5 < later.temperature_cel < 40
        assert 5 <= physics.relative_humidity(later) <= 100
        assert 0 <= later.fan_per_min <= physics.FAN_PER_MIN_MAX
        assert 500 < later.demand_w < 15_000 or pause == 0
        assert all(math.isfinite(value) for value in (later.heating, later.moisture_g_per_m3))
        room = later


def test_energy_is_demand_over_time() -> None:
    room = advance(Room(MONDAY_S), 1, MONDAY_S + 3600)
    later = advance(room, 1, MONDAY_S + 3660)
    assert later.energy_kwh - room.energy_kwh == pytest.approx(later.demand_w / 60_000)


def test_time_that_is_not_ahead_changes_nothing() -> None:
    room = advance(Room(MONDAY_S), 1, MONDAY_S + 60)
    assert advance(room, 1, MONDAY_S) is room


def test_room_has_inertia_and_a_course_of_the_day() -> None:
    room = advance(Room(MONDAY_S - physics.DAY_S), 3, MONDAY_S)
    course = []
    for _ in range(24 * 60):
        later = advance(room, 3, room.time_s + 60)
        assert abs(later.temperature_cel - room.temperature_cel) < 0.2
        course.append(later.temperature_cel)
        room = later
    by_night, by_day = course[4 * 60], course[14 * 60]
    assert by_day > by_night + 1.5


def test_seed_decides_everything() -> None:
    first, again, other = (advance(Room(MONDAY_S), seed, MONDAY_S + 40_000) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_working_hours_are_normal_mode() -> None:
    assert physics.power_mode(MONDAY_S + 36_000) == "normal"
    assert physics.power_mode(MONDAY_S + 3_600) == "eco"
    assert physics.power_mode(SUNDAY_S + 36_000) == "eco"
