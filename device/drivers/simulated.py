"""The simulated sensors: HVAC, occupancy and energy of one building, from a seed.

The state of the building is the position that commits with every reading, so that neither time
nor the meter goes backwards over a restart.
"""

import dataclasses
import json

from plantroom.device.driver import Taken
from plantroom.device.drivers import physics
from plantroom.device.schedule import Schedule
from plantroom.device.settings import DeviceSettings
from plantroom.wire.clock import PLAUSIBLE_FROM_US, Clock, is_plausible
from plantroom.wire.errors import ConfigError
from plantroom.wire.reading import Point, Sample

WARM_UP_S = physics.DAY_S
METER_KWH_MAX = 50_000
FAN_TURNS_PER_MIN = 60


class SimulatedDriver:
    """One simulated device of one kind: `hvac`, `occupancy` or `energy`."""

    waits = False

    def __init__(
        self, kind: str, *, seed: int, period_s: float, speed: float, clock: Clock
    ) -> None:
        if kind not in _POINTS:
            raise ConfigError(f"nothing simulates {kind!r}", remedy=f"one of {', '.join(_POINTS)}")
        self._points = _POINTS[kind]
        self._seed = seed
        self._speed = speed
        self._clock = clock
        self._period_us = max(1, round(period_s * 1_000_000 / speed))
        self.resume(None)

    def resume(self, position: str | None) -> None:
        """Go on where the state was committed last; None: in a building that has settled."""
        mono_us, wall_us = self._clock.monotonic_us(), self._clock.wall_us()
        self._schedule = Schedule(start_us=mono_us, period_us=self._period_us)
        plausible = is_plausible(wall_us)
        start_us = wall_us if plausible else PLAUSIBLE_FROM_US
        if position is None:
            meter_kwh = (self._seed * 7919) % METER_KWH_MAX
            cold = physics.Room(start_us / 1e6 - WARM_UP_S, energy_kwh=float(meter_kwh))
            self._room = physics.advance(cold, self._seed, start_us / 1e6)
        else:
            kept = json.loads(position)
            if kept.pop("driver") != "simulated":
                raise ConfigError(
                    "this state belongs to a device that replays a recording",
                    where="sampling.driver",
                    remedy="simulate with a state folder of its own",
                )
            self._room = physics.Room(**kept)
        ahead_us = round(self._room.time_s * 1_000_000) - start_us
        self._anchor_us = start_us + max(0, ahead_us)
        self._anchored_at_us = mono_us
        # At the real pace the real clock is the time, unless an earlier life ran ahead of it.
        self._real = self._speed == 1 and ahead_us <= 0

    def due_in_us(self) -> int:
        """Say how long until the next reading."""
        return self._schedule.due_in_us(self._clock.monotonic_us())

    def take(self, count_max: int) -> list[Taken]:
        """Measure for every instant that has come."""
        due = self._schedule.due(self._clock.monotonic_us(), count_max)
        return [self._measure(instant_us) for instant_us in due]

    def fresh(self) -> Taken:
        """Measure now."""
        return self._measure(self._clock.monotonic_us())

    def info(self) -> dict[str, str]:
        """Say what is simulated, and how many instants were missed."""
        return {"simulated": "yes", "missed": str(self._schedule.missed)}

    def _measure(self, mono_us: int) -> Taken:
        time_us = self._time_us(mono_us)
        moment_us = self._anchor_us + mono_us - self._anchored_at_us if time_us is None else time_us
        self._room = physics.advance(self._room, self._seed, moment_us / 1e6)
        sample = Sample(
            device="",
            time_us=time_us,
            mono_us=mono_us if time_us is None else None,
            points=self._points(self._room, self._seed),
        )
        position = {"driver": "simulated"} | dataclasses.asdict(self._room)
        return Taken(sample=sample, position=json.dumps(position))

    def _time_us(self, mono_us: int) -> int | None:
        """Return the time of a reading; None while a real clock is not set yet."""
        if not self._real:
            return self._anchor_us + round((mono_us - self._anchored_at_us) * self._speed)
        wall_us = self._clock.wall_us() - (self._clock.monotonic_us() - mono_us)
        return wall_us if is_plausible(wall_us) else None


def _hvac(room: physics.Room, _seed: int) -> tuple[Point, ...]:
    turning = room.fan_per_min > FAN_TURNS_PER_MIN
    speed = round(room.fan_per_min) if turning else 0
    return (
        Point(name="temperature", unit="Cel", value=round(room.temperature_cel, 2)),
        Point(name="humidity", unit="%RH", value=round(physics.relative_humidity(room), 1)),
        Point(name="fan_speed", unit="1/min", value=speed),
        Point(name="fan_status", unit=None, value=turning),
        Point(name="power_mode", unit=None, value=physics.power_mode(room.time_s)),
    )


def _occupancy(room: physics.Room, seed: int) -> tuple[Point, ...]:
    return (
        Point(name="count", unit="count", value=physics.people(seed, room.time_s)),
        Point(name="motion", unit=None, value=physics.motion(seed, room.time_s)),
    )


def _energy(room: physics.Room, _seed: int) -> tuple[Point, ...]:
    return (
        Point(name="energy", unit="kWh", value=round(room.energy_kwh, 3)),
        Point(name="demand", unit="W", value=round(room.demand_w)),
    )


_POINTS = {"hvac": _hvac, "occupancy": _occupancy, "energy": _energy}


def make(settings: DeviceSettings, clock: Clock, _report: object) -> SimulatedDriver:
    """Make the driver that the settings describe."""
    sampling = settings.sampling
    return SimulatedDriver(
        settings.agent.kind,
        seed=sampling.seed,
        period_s=sampling.period_s,
        speed=sampling.speed,
        clock=clock,
    )
