"""A campaign: which devices get a release, in which groups, how fast, and when it must stop.

Plain values, and how a plan is read from what an operator wrote; the rules are `campaign_rules`.
The shape follows what Eclipse hawkBit calls a rollout and AWS IoT a job.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from plantroom.wire import shape
from plantroom.wire.errors import UsageError
from plantroom.wire.ota_states import State

GROUPS_MAX: Final = 50
NAMES_MAX: Final = 10_000
DAY_MINUTES: Final = 24 * 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_RELEASE = re.compile(r"[0-9a-f]{64}")
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")

Standing = Literal["running", "paused", "aborted", "finished"]
MemberState = Literal["PENDING", "ASSIGNED", State]

# How long a device may stay in a state before it counts as a failure, in seconds.
DEADLINES_S: Final[Mapping[str, float]] = {
    "ASSIGNED": 24 * 3600.0,
    "IDLE": 24 * 3600.0,
    "QUEUED": 24 * 3600.0,
    "WAITING": 24 * 3600.0,
    "INITIATED": 3600.0,
    "DOWNLOADING": 2 * 3600.0,
    "DOWNLOADED": 1800.0,
    "VERIFIED": 3600.0,
    "UPDATING": 1800.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Devices that get it together; `percent` of all, or a `count`; the last takes the rest.

    The next group begins when `success_pct` of this one have it and `soak_s` have passed; the
    campaign pauses once `error_count` have failed, or `error_pct` of at least `min_executed`.
    """

    percent: float = 0.0
    count: int = 0
    success_pct: float = 90.0
    error_pct: float = 20.0
    error_count: int = 0
    min_executed: int = 1
    on_success: Literal["next", "pause"] = "next"
    soak_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which devices of the release's class: none named means all."""

    sites: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def takes(self, site: str, device: str) -> bool:
        """Say whether a device is meant."""
        return (not self.sites or site in self.sites) and (
            not self.devices or device in self.devices
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an operator wants; `release` is the manifest's digest in hex.

    `window` is the daily time in UTC in which devices may begin, as `22:00-05:00`. `soft` lets
    each device choose its place in `jitter_s`, `forced` begins at once.
    """

    name: str
    release: str
    selector: Selector = field(default_factory=Selector)
    groups: tuple[Group, ...] = (Group(),)
    rate_per_min: float = 0.0
    window: str = ""
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    retries: int = 0
    kind: Literal["forced", "soft"] = "forced"
    jitter_s: int = 3600

    def deadline_s(self, state: str) -> float | None:
        """Return how long a device may be in this state."""
        return self.deadlines_s.get(state, DEADLINES_S.get(state))


@dataclass(slots=True, kw_only=True)
class Member:
    """One device in a campaign; `since_us` is when it last made progress."""

    site: str
    device: str
    group: int
    state: MemberState = "PENDING"
    code: str = ""
    since_us: int = 0
    tries: int = 0
    is_forgiven: bool = False
    chunks: int = 0
    chunks_done: int = 0


@dataclass(slots=True, kw_only=True)
class Campaign:
    """A plan at work."""

    plan: Plan
    standing: Standing = "running"
    why: str = ""
    group: int = 0
    group_done_us: int = 0  # when the current group had succeeded; 0: not yet
    next_us: int = 0  # when the rate allows the next device
    begun_us: int = 0
    members: dict[tuple[str, str], Member] = field(default_factory=dict)


def read_plan(data: Any) -> Plan:
    """Read a plan, checked field by field.

    Raises:
        UsageError: naming the field and what it may be.
    """

    def fail(text: str) -> UsageError:
        return UsageError(f"not a campaign: {text}", remedy="see docs/how-to/update-firmware.md")

    if not isinstance(data, dict):
        raise fail("it is not a table")
    known = set(Plan.__dataclass_fields__)
    if unknown := sorted(set(map(str, data)) - known):
        raise fail(f"{unknown[0]} is not known; known are {', '.join(sorted(known))}")
    plan: Plan = shape.from_plain(Plan, data, fail)
    _check(plan, fail)
    return plan


def _check(plan: Plan, fail: shape.Fail) -> None:
    if not _NAME.fullmatch(plan.name):
        raise fail("name is letters, digits, dot, dash and underline, up to 63")
    if not _RELEASE.fullmatch(plan.release):
        raise fail("release is the manifest's digest, 64 hex digits: see `plantroom ota inspect`")
    if not 0 < len(plan.groups) <= GROUPS_MAX:
        raise fail(f"groups are 1 to {GROUPS_MAX}")
    if len(plan.selector.sites) > NAMES_MAX or len(plan.selector.devices) > NAMES_MAX:
        raise fail(f"selector names at most {NAMES_MAX} sites and devices")
    for number, group in enumerate(plan.groups, 1):
        _check_group(group, number, fail, is_last=number == len(plan.groups))
    if plan.window and not _WINDOW.fullmatch(plan.window):
        raise fail("window is as 22:00-05:00, in UTC")
    if plan.rate_per_min < 0 or not 0 <= plan.retries <= 10 or not 0 <= plan.jitter_s <= 86_400:
        raise fail("rate_per_min is not negative, retries 0 to 10, jitter_s 0 to 86400")
    for state, seconds in plan.deadlines_s.items():
        if state not in DEADLINES_S or not 1 <= seconds <= 365 * 86_400:
            raise fail(f"deadlines_s has seconds for {', '.join(DEADLINES_S)}; {state} is wrong")


def _check_group(group: Group, number: int, fail: shape.Fail, *, is_last: bool) -> None:
    shares = (group.percent, group.success_pct, group.error_pct)
    if not all(0 <= share <= 100 for share in shares):
        raise fail(f"group {number}: percent, success_pct and error_pct are 0 to 100")
    if group.count < 0 or group.error_count < 0 or group.min_executed < 1 or group.soak_s < 0:
        raise fail(f"group {number}: count, error_count, soak_s are not negative, min_executed > 0")
    if not is_last and bool(group.percent) == bool(group.count):
        raise fail(f"group {number}: one of percent and count says how large it is")


def minutes_of(window: str) -> tuple[int, int]:
    """Return a window's begin and end in minutes of the day."""
    match = _WINDOW.fullmatch(window)
    if match is None:
        raise UsageError("window is as 22:00-05:00, in UTC", where=window)
    begin_h, begin_m, end_h, end_m = map(int, match.groups())
    return begin_h * 60 + begin_m, end_h * 60 + end_m
