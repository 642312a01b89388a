"""What a campaign does next: pure rules over its members, without clock, network or disk.

Every call says what time it is; what comes back is whom to tell what.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from plantroom.cloud.campaign import DAY_MINUTES, Campaign, Group, Member, Plan, minutes_of
from plantroom.wire.ota_messages import Order, Report
from plantroom.wire.ota_states import FINAL_STATES

SUCCESSES: Final = frozenset({"UPDATED", "ALREADY_CURRENT"})
_RETRIED: Final = frozenset({"FAILED", "TIMED_OUT"})
_STARTABLE: Final = "PENDING"
_BEYOND_RECALL: Final = frozenset({"UPDATING"}) | FINAL_STATES
_MINUTE_US: Final = 60_000_000
_BURST_US: Final = 1_000_000  # what the rate allows in this time may begin at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One device to be told something; `until_s` is when its window ends, 0: never."""

    site: str
    device: str
    order: Order
    until_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How a group stands."""

    size: int = 0
    pending: int = 0
    executed: int = 0
    succeeded: int = 0

    @property
    def failed(self) -> int:
        """How many have ended without the release."""
        return self.executed - self.succeeded


def enlist(campaign: Campaign, devices: Iterable[tuple[str, str]]) -> int:
    """Add devices that are meant and not in it yet; return how many that were.

    At its begin they are dealt to the groups in an order that depends on the campaign's name alone
    (nobody is the canary of every campaign); who comes later is in the last group.
    """
    plan = campaign.plan
    fresh = sorted(
        {key for key in devices if plan.selector.takes(*key) and key not in campaign.members},
        key=lambda key: hashlib.sha256("/".join((plan.name, *key)).encode()).digest(),
    )
    places = _places(plan, len(fresh)) if not campaign.members else iter(())
    for site, device in fresh:
        group = next(places, len(plan.groups) - 1)
        campaign.members[site, device] = Member(site=site, device=device, group=group)
    return len(fresh)


def _places(plan: Plan, total: int) -> Iterator[int]:
    for number, group in enumerate(plan.groups[:-1]):
        size = group.count or max(1, round(total * group.percent / 100))
        yield from [number] * size


def tally(campaign: Campaign, group: int) -> Tally:
    """Count a group; failures that an operator has forgiven are no part of it."""
    states = [
        member.state
        for member in campaign.members.values()
        if member.group == group and not member.is_forgiven
    ]
    return Tally(
        size=len(states),
        pending=states.count(_STARTABLE),
        executed=sum(state in FINAL_STATES for state in states),
        succeeded=sum(state in SUCCESSES for state in states),
    )


def heard(campaign: Campaign, member: Member, report: Report, now_us: int) -> bool:
    """Take a device's report about this campaign's release; say whether anything changed.

    A verdict that comes after its deadline replaces it: what the device says is what is.
    """
    is_progress = report.state == "DOWNLOADING" and report.chunks_done > member.chunks_done
    if member.state == _STARTABLE and report.state not in FINAL_STATES:
        return False
    if (report.state, report.code) == (member.state, member.code) and not is_progress:
        return False
    if member.state in FINAL_STATES and report.state not in FINAL_STATES:
        return False
    member.state, member.code, member.since_us = report.state, report.code, now_us
    member.chunks, member.chunks_done = report.chunks, report.chunks_done
    _try_again(campaign, member)
    return True


def _try_again(campaign: Campaign, member: Member) -> None:
    if member.state in _RETRIED and member.tries <= campaign.plan.retries:
        member.state = _STARTABLE


def step(campaign: Campaign, now_us: int) -> list[Told]:
    """Do what is due: deadlines, the standing of the group, the next devices."""
    if campaign.standing not in {"running", "paused"}:
        return []
    _expire(campaign, now_us)
    told: list[Told] = []
    while campaign.standing == "running":
        counted = tally(campaign, campaign.group)
        told += _start(campaign, now_us)
        if not _judge(campaign, counted, now_us):
            break
    return told


def _expire(campaign: Campaign, now_us: int) -> None:
    for member in campaign.members.values():
        deadline_s = campaign.plan.deadline_s(member.state)
        if deadline_s is not None and now_us - member.since_us > deadline_s * 1_000_000:
            member.code = member.state.lower()
            member.state, member.since_us = "TIMED_OUT", now_us
            _try_again(campaign, member)


def _judge(campaign: Campaign, counted: Tally, now_us: int) -> bool:
    """Move the campaign by its group's standing; say whether another group is to be looked at."""
    group = campaign.plan.groups[campaign.group]
    name = f"group {campaign.group + 1}"
    is_last = campaign.group == len(campaign.plan.groups) - 1
    if has_failed(group, counted):
        _pause(campaign, f"{name}: {counted.failed} of {counted.executed} failed")
        return False
    if is_last:
        if counted.executed == counted.size:
            campaign.standing = "finished"
        return False
    if counted.succeeded * 100 < group.success_pct * counted.size:
        if counted.executed == counted.size:
            share = f"{counted.succeeded} of {counted.size} have it"
            _pause(campaign, f"{name}: {share}, {group.success_pct:g} % are wanted")
        return False
    campaign.group_done_us = campaign.group_done_us or now_us
    if now_us - campaign.group_done_us < group.soak_s * 1_000_000:
        return False
    campaign.group, campaign.group_done_us = campaign.group + 1, 0
    if group.on_success == "pause":
        _pause(campaign, f"{name} has it: resume for the next")
    return True


def has_failed(group: Group, counted: Tally) -> bool:
    """Say whether too many of a group have failed."""
    if not counted.failed:
        return False
    if group.error_count and counted.failed >= group.error_count:
        return True
    enough = counted.executed >= group.min_executed
    return enough and counted.failed * 100 >= max(group.error_pct, 0.001) * counted.executed


def _pause(campaign: Campaign, why: str) -> None:
    campaign.standing, campaign.why = "paused", why


def _start(campaign: Campaign, now_us: int) -> list[Told]:
    """Choose who begins now, within window and rate."""
    until_s = window_end_s(campaign.plan.window, now_us)
    if until_s is None:
        return []
    told = []
    for member in campaign.members.values():
        if member.state != _STARTABLE or member.group > campaign.group:
            continue
        if campaign.plan.rate_per_min and campaign.next_us > now_us:
            break
        if campaign.plan.rate_per_min:
            pause_us = int(_MINUTE_US / campaign.plan.rate_per_min)
            campaign.next_us = max(campaign.next_us, now_us - _BURST_US) + pause_us
        member.state, member.code, member.since_us = "ASSIGNED", "", now_us
        member.tries += 1
        told.append(Told(site=member.site, device=member.device, order="install", until_s=until_s))
    return told


def window_end_s(window: str, now_us: int) -> int | None:
    """Return when the open window ends in Unix seconds, 0 without one, None while it is closed."""
    if not window:
        return 0
    begin, end = minutes_of(window)
    now_s = now_us // 1_000_000
    minute = now_s // 60 % DAY_MINUTES
    since, length = (minute - begin) % DAY_MINUTES, (end - begin) % DAY_MINUTES or DAY_MINUTES
    return None if since >= length else (now_s // 60 - since + length) * 60


def pause(campaign: Campaign, why: str) -> None:
    """Start nobody any more; who has begun goes on."""
    if campaign.standing == "running":
        _pause(campaign, why)


def resume(campaign: Campaign) -> None:
    """Go on; failures so far are forgiven: who may try again does, the others are left out."""
    if campaign.standing != "paused":
        return
    campaign.standing, campaign.why = "running", ""
    for member in campaign.members.values():
        if member.state in _RETRIED:
            member.state, member.tries = _STARTABLE, 0
        elif member.state in FINAL_STATES - SUCCESSES:
            member.is_forgiven = True


def abort(campaign: Campaign, why: str) -> list[Told]:
    """End it: who is not past recall is told to stop, and nobody begins any more."""
    if campaign.standing not in {"running", "paused"}:
        return []
    campaign.standing, campaign.why = "aborted", why
    told = []
    for member in campaign.members.values():
        if member.state == _STARTABLE:
            member.state = "CANCELED"
        elif member.state not in _BEYOND_RECALL:
            told.append(Told(site=member.site, device=member.device, order="cancel"))
    return told
