"""A plausible building, from a seed: people come and go, rooms warm and cool, a meter counts up.

Pure functions of seed and time, and one state that moves on with time. Every sensor of a building
computes the same people from the same seed, so that its readings fit together.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import lru_cache

DAY_S = 86_400
WEEK_DAYS = 7
PEOPLE_MAX = 24
STEP_S_MAX = 60.0
STEPS_MAX = 3000  # of one advance: a long pause is crossed in longer steps

ROOM_TAU_S = 8 * 3600.0  # how slowly a room follows its surroundings
FAN_TAU_S = 45.0
FAN_PER_MIN_MAX = 1450.0
COMFORT_CEL, SETBACK_CEL = 21.5, 18.0
WARMTH_CEL_PER_PERSON = 0.12
HEATER_CEL = 26.0  # what full heating adds to the equilibrium of a room
BASE_W, PERSON_W, LIGHTS_W, FAN_W = 1200.0, 95.0, 1400.0, 2200.0


@dataclass(frozen=True, slots=True)
class Room:
    """The state of a zone and of its meter at one time (seconds since 1970)."""

    time_s: float
    temperature_cel: float = 19.0
    moisture_g_per_m3: float = 7.0
    fan_per_min: float = 0.0
    heating: float = 0.0
    energy_kwh: float = 0.0
    demand_w: float = BASE_W


@lru_cache(maxsize=8)
def _presences(seed: int, day: int) -> tuple[tuple[float, float, float, float], ...]:
    """For each person who comes that day: arrival, lunch, its end, departure, in seconds."""
    dice = random.Random(f"{seed}/{day}")  # noqa: S311 -- weather and people, no secrets
    weekend = day % WEEK_DAYS in (2, 3)  # day 0, 1970-01-01, was a Thursday
    present = []
    for _ in range(PEOPLE_MAX):
        comes = dice.random() < (0.04 if weekend else 0.85)
        arrival = dice.gauss(8.6 * 3600, 2400)
        lunch = dice.gauss(12.2 * 3600, 900)
        back = lunch + dice.uniform(1500, 3600)
        departure = max(back + 1800, dice.gauss(17.2 * 3600, 3000))
        if comes:
            present.append((arrival, lunch, back, departure))
    return tuple(present)


def people(seed: int, time_s: float) -> int:
    """Count the people in the zone."""
    day, second = divmod(time_s, DAY_S)
    return sum(
        arrival <= second < lunch or back <= second < departure
        for arrival, lunch, back, departure in _presences(seed, int(day))
    )


def motion(seed: int, time_s: float) -> bool:
    """Say whether the motion sensor has seen someone within the last minute."""
    count = people(seed, time_s)
    return count > 0 and _noise(seed, "motion", time_s, 60) < 1 - 0.35**count


def _noise(seed: int, what: str, time_s: float, every_s: float) -> float:
    """Return a number in [0, 1) that holds for `every_s` seconds."""
    return random.Random(f"{seed}/{what}/{int(time_s // every_s)}").random()  # noqa: S311 -- as above


def _wandering(seed: int, what: str, time_s: float, every_s: float) -> float:
    """Return smooth noise in [-1, 1]: random values every so often, joined by a cosine."""
    before = _noise(seed, what, time_s, every_s)
    after = _noise(seed, what, time_s + every_s, every_s)
    share = (1 - math.cos(math.pi * (time_s % every_s) / every_s)) / 2
    return 2 * (before + (after - before) * share) - 1


def outdoor_cel(seed: int, time_s: float) -> float:
    """Return the temperature outside: the season, the hour, and the weather of a few days."""
    year = math.cos(2 * math.pi * (time_s / DAY_S - 200) / 365.25)  # warmest in late July
    hour = math.cos(2 * math.pi * (time_s % DAY_S / DAY_S - 15 / 24))  # warmest at three
    return 10.5 + 9 * year + 4 * hour + 4 * _wandering(seed, "weather", time_s, 2.5 * DAY_S)


def power_mode(time_s: float) -> str:
    """Return the mode that the timer asks for: working hours on working days are `normal`."""
    day, second = divmod(time_s, DAY_S)
    working = day % WEEK_DAYS not in (2, 3) and 6 * 3600 <= second < 19 * 3600
    return "normal" if working else "eco"


def advance(room: Room, seed: int, until_s: float) -> Room:
    """Let the room live until then; time that is not ahead changes nothing."""
    span = until_s - room.time_s
    if span <= 0:
        return room
    steps = min(STEPS_MAX, math.ceil(span / STEP_S_MAX))
    for number in range(1, steps + 1):
        room = _step(room, seed, room.time_s + (until_s - room.time_s) / (steps + 1 - number))
    return replace(room, time_s=until_s)


def _step(room: Room, seed: int, until_s: float) -> Room:
    dt = until_s - room.time_s
    count, mode = people(seed, until_s), power_mode(until_s)
    outside = outdoor_cel(seed, until_s)
    target = COMFORT_CEL if mode == "normal" else SETBACK_CEL
    heating = min(1.0, max(0.0, (target - room.temperature_cel) * 0.8 + 0.25))
    cooling = min(1.0, max(0.0, (room.temperature_cel - target - 2.5) * 0.5))
    fan_wanted = FAN_PER_MIN_MAX * max(heating, cooling, min(1.0, count / 18) if count else 0.0)
    if mode == "eco" and count == 0:
        fan_wanted = FAN_PER_MIN_MAX * max(0.0, heating - 0.3)
    settled = outside + HEATER_CEL * heating - 9 * cooling + WARMTH_CEL_PER_PERSON * count
    moist = 4.2 + 0.13 * count + 0.16 * max(0.0, outside)
    fan = _toward(room.fan_per_min, fan_wanted, dt, FAN_TAU_S)
    demand = (
        BASE_W * (1 + 0.08 * _wandering(seed, "fridge", until_s, 900))
        + PERSON_W * count
        + (LIGHTS_W if count else 0.0)
        + FAN_W * (fan / FAN_PER_MIN_MAX) ** 3
        + 3000 * heating * 0.3
    )
    return Room(
        time_s=until_s,
        temperature_cel=_toward(room.temperature_cel, settled, dt, ROOM_TAU_S),
        moisture_g_per_m3=_toward(room.moisture_g_per_m3, moist, dt, 2400),
        fan_per_min=fan,
        heating=heating,
        energy_kwh=room.energy_kwh + demand * dt / 3_600_000,
        demand_w=demand,
    )


def _toward(value: float, target: float, dt: float, tau_s: float) -> float:
    """Relax exponentially: stable for any step."""
    return target + (value - target) * math.exp(-dt / tau_s)


def relative_humidity(room: Room) -> float:
    """Return %RH from absolute moisture and temperature (Magnus formula over water)."""
    cel = room.temperature_cel
    saturation_hpa = 6.112 * math.exp(17.62 * cel / (243.12 + cel))
    saturated_g = 216.7 * saturation_hpa / (273.15 + cel)
    return min(100.0, max(5.0, 100 * room.moisture_g_per_m3 / saturated_g))
