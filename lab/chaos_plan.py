"""Which faults come when: drawn from a seed, so that the same seed is the same schedule. Pure."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["kill", "cut", "swallow", "throttle", "delay", "fill", "step"]
Way = Literal["lan", "wan"]
WAYS: Final[tuple[Way, ...]] = ("lan", "wan")
SPARE_S: Final = 3.0  # of calm before the first fault
_MS: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What a way does to every message: one way's delay, its jitter, and the share that is lost.

    A proxy of TCP loses nothing; a lost segment shows as the wait until it is sent again.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: what, to whom (a process or a way), from when, for how long."""

    at_s: float
    kind: Kind
    target: str
    lasts_s: float = 0.0
    bytes_per_s: int = 0
    off_s: int = 0  # how far a clock is off

    @property
    def text(self) -> str:
        """The fault in words."""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        by = f" by {self.off_s:+d} s" if self.off_s else ""
        return f"{self.kind} {self.target}{by}{lasts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The whole storm: the weather that lasts, and the faults in their order."""

    weather: Mapping[Way, Weather]
    faults: tuple[Fault, ...]


def schedule(profile: str, *, seed: int, duration_s: float, processes: Sequence[str]) -> Schedule:
    """Draw the schedule of a profile; `processes` are those that may be killed.

    Raises:
        KeyError: for a profile that is not one.
    """
    chance = random.Random(f"{profile} {seed}")  # noqa: S311 -- replayable on purpose
    weather, draw = PROFILES[profile]
    faults = draw(chance, duration_s, processes)
    return Schedule(weather=weather, faults=tuple(sorted(faults, key=lambda fault: fault.at_s)))


def _offline(chance: random.Random, duration_s: float, _processes: Sequence[str]) -> list[Fault]:
    """One long cut, in which the gateway is killed once."""
    begin_s = SPARE_S + chance.uniform(0.0, 0.1) * duration_s
    lasts_s = 0.6 * duration_s
    killed_s = begin_s + chance.uniform(0.3, 0.7) * lasts_s
    return [
        Fault(at_s=begin_s, kind="cut", target="wan", lasts_s=lasts_s),
        Fault(at_s=killed_s, kind="kill", target="gateway"),
    ]


def _calm(_chance: random.Random, _duration_s: float, _processes: Sequence[str]) -> list[Fault]:
    """Nothing but the weather."""
    return []


def _storm(chance: random.Random, duration_s: float, processes: Sequence[str]) -> list[Fault]:
    """Something every second or two on every process and way, one full disk, two clock steps."""
    return [
        *_strokes(chance, duration_s, processes),
        _full_disk(chance, duration_s),
        *_clock_steps(chance, duration_s),
    ]


def _strokes(chance: random.Random, duration_s: float, processes: Sequence[str]) -> Iterator[Fault]:
    at_s = SPARE_S
    while at_s < duration_s:
        kind: Kind = chance.choice(("kill", "kill", "cut", "swallow", "throttle", "delay"))
        if kind == "kill":
            yield Fault(at_s=at_s, kind=kind, target=chance.choice(processes))
        else:
            yield Fault(
                at_s=at_s,
                kind=kind,
                target=chance.choice(WAYS),
                lasts_s=chance.uniform(0.5, 6.0),
                bytes_per_s=chance.choice((500, 2_000, 10_000)),
            )
        at_s += chance.uniform(1.0, 2.0)


def _full_disk(chance: random.Random, duration_s: float) -> Fault:
    at_s = SPARE_S + chance.uniform(0.2, 0.6) * duration_s
    lasts_s = min(15.0, 0.15 * duration_s)
    return Fault(at_s=at_s, kind="fill", target="disk", lasts_s=lasts_s)


def _clock_steps(chance: random.Random, duration_s: float) -> Iterator[Fault]:
    """Set the clock once forward and once back, each time for a while.

    Forward by less than the skew that certificates bear: one that is issued in a future which is
    taken back is not valid before its time, and whoever has it waits for that long.
    """
    lasts_s = min(12.0, 0.2 * duration_s)
    steps = (chance.choice((5, 20, 45)), -chance.choice((5, 90, 600, 3_000)))
    for part, off_s in enumerate(chance.sample(steps, 2)):
        at_s = SPARE_S + (part / 2 + chance.uniform(0.05, 0.2)) * duration_s
        yield Fault(at_s=at_s, kind="step", target="clock", lasts_s=lasts_s, off_s=off_s)


Draw = Callable[[random.Random, float, Sequence[str]], list[Fault]]
_SATELLITE: Final[Mapping[Way, Weather]] = {"wan": Weather(delay_s=300 * _MS, loss=0.02)}
_CELLULAR: Final[Mapping[Way, Weather]] = {"wan": Weather(delay_s=50 * _MS, jitter_s=5 * _MS)}
PROFILES: Final[Mapping[str, tuple[Mapping[Way, Weather], Draw]]] = {
    "offline": ({}, _offline),
    "satellite": (_SATELLITE, _calm),
    "cellular": (_CELLULAR, _calm),
    "storm": ({}, _storm),
}
