"""What a seed stands for: sizes, limits, and which faults come how often."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from plantroom.device.dispatch import Rules
from plantroom.device.ring import Limits as RingLimits
from plantroom.gateway.pace import Pace
from plantroom.gateway.room import Limits, Policy

POLICIES: tuple[Policy, ...] = ("reject", "oldest", "newest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run; small on purpose, so that every limit is hit."""

    seed: int
    sensors: int = 1
    faulty_s: float = 60.0
    period_s: float = 1.5
    at_once: int = 1
    ring: RingLimits = field(default_factory=RingLimits)
    rules: Rules = field(default_factory=Rules)
    limits: Limits
    pace: Pace
    puback_timeout_s: float = 5.0
    poison: float = 0.0
    garble: float = 0.0
    late: float = 0.0
    fault_every_s: float = 6.0
    faults: tuple[str, ...] = ()
    strict: bool = False  # short segments, restored stores that nobody has renamed

    def but(self, **changes: Any) -> "Plan":
        """Return the same plan with some of it changed."""
        return replace(self, **changes)


FAULTS = (
    *("kill-sensor", "kill-gateway", "kill-cloud", "crash-sensor", "crash-gateway", "crash-cloud"),
    *("cut-lan", "cut-wan", "cut-ingest", "silent-lan", "silent-wan", "front-crash", "front-lost"),
    *("weather", "disk-full-sensor", "disk-full-gateway", "disk-full-cloud", "clock-step"),
    *("twin", "restore-cloud", "restore-gateway", "restore-sensor", "reboot-sensor"),
    *("no-reserve", "moody-broker", "slow-gateway"),
)


def of_seed(seed: int) -> Plan:
    """Draw a plan."""
    chance = random.Random(f"plan {seed}")  # noqa: S311 -- replayable on purpose
    draw = chance.choice
    count = chance.randrange(2, len(FAULTS) + 1)
    window = draw((1, 2, 4))
    return Plan(
        seed=seed,
        sensors=draw((1, 1, 2)),
        faulty_s=draw((15.0, 30.0, 45.0)),
        period_s=draw((0.5, 1.0, 2.0)),
        at_once=draw((1, 1, 3)),
        ring=RingLimits(readings_max=draw((4, 8, 30)), age_s_max=draw((0, 0, 30))),
        rules=Rules(batch_readings=draw((1, 3, 10)), window=draw((1, 4)), parked_retry_s=20.0),
        limits=Limits(
            readings_max=draw((6, 15, 1000)),
            bytes_max=draw((2_000, 1 << 30)),
            age_us_max=draw((0, 0, 20_000_000)),
            disk_free_bytes_min=0,
            policy=draw(POLICIES),
            quarantine_bytes_max=draw((0, 1 << 20)),
        ),
        pace=Pace(
            live_readings_max=draw((1, 3, 20)),
            backfill_readings_max=draw((1, 4, 20)),
            notes_max=draw((1, 10)),
            window=window,
            hello_s=draw((5.0, 12.0)),
            answer_timeout_s=draw((4.0, 10.0)),
        ),
        poison=draw((0.0, 0.0, 0.03)),
        garble=draw((0.0, 0.0, 0.03)),
        fault_every_s=draw((2.0, 4.0, 10.0)),
        faults=tuple(sorted(chance.sample(FAULTS, count))),
    )


def strict_of_seed(seed: int) -> Plan:
    """Draw a plan in which things are there twice, come back from a backup, or are old."""
    chance = random.Random(f"strict {seed}")  # noqa: S311 -- replayable on purpose
    some = chance.sample(FAULTS, chance.randrange(1, 8))
    rare = chance.sample(
        ("clone-gateway", "retention", "restore-cloud", "restore-gateway", "restore-sensor"),
        chance.randrange(2, 5),
    )
    faults = tuple(sorted({*some, *rare, "clone-gateway" if seed % 2 else "retention"}))
    return of_seed(seed).but(strict=True, faults=faults)


INTERVENTIONS = (
    *("replay-quarantine", "drop-quarantine", "switch-policy", "restore-both"),
    *("restore-cloud-again", "full-and-killed", "step-in-outage", "crash-halving", "clone-sensor"),
)


def rough_of_seed(seed: int) -> Plan:
    """Draw a plan in which people intervene, and bad luck comes in pairs."""
    chance = random.Random(f"rough {seed}")  # noqa: S311 -- replayable on purpose
    plan = of_seed(seed)
    paired = chance.sample(INTERVENTIONS, chance.randrange(2, len(INTERVENTIONS) + 1))
    some = chance.sample((*FAULTS, "clone-gateway", "retention"), chance.randrange(6))
    return plan.but(
        strict=True,
        poison=chance.choice((0.0, 0.03, 0.1)),
        garble=chance.choice((0.0, 0.03, 0.1)),
        limits=replace(plan.limits, quarantine_bytes_max=chance.choice((0, 1 << 20, 1 << 20))),
        faults=tuple(sorted({*paired, *some})),
    )


KINDS: dict[str, Callable[[int], Plan]] = {
    "plain": of_seed,
    "strict": strict_of_seed,
    "rough": rough_of_seed,
}
