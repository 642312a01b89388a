"""The rules of campaigns: who begins when, what stops them, and what an operator can do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantroom.cloud import campaign_rules as rules
from plantroom.cloud.campaign import Campaign, MemberState, read_plan
from plantroom.cloud.campaign_rules import SUCCESSES, Tally
from plantroom.wire.ota_messages import Report
from plantroom.wire.ota_states import FINAL_STATES, STATES, State

NOW_US = 1_795_000_000_000_000
SECOND_US = 1_000_000


def campaign(size: int = 10, **plan: Any) -> Campaign:
    made = Campaign(plan=read_plan({"name": "spring", "release": "ab" * 32} | plan))
    rules.enlist(made, [("building-1", f"hvac-{number:03d}") for number in range(size)])
    return made


def standing(made: Campaign) -> str:
    return made.standing


def assigned(made: Campaign) -> list[tuple[str, str]]:
    return [key for key, member in made.members.items() if member.state == "ASSIGNED"]


def report(made: Campaign, state: State, *, count: int = 1, code: str = "", at_us: int = 0) -> None:
    keys = assigned(made)[:count]
    assert len(keys) == count
    for key in keys:
        rules.heard(made, made.members[key], Report(number=1, state=state, code=code), at_us)


def test_the_canary_goes_first_and_the_rest_after_its_success_and_soak() -> None:
    made = campaign(groups=[{"count": 2, "soak_s": 60, "success_pct": 100}, {}])
    told = rules.step(made, NOW_US)
    assert len(told) == 2
    assert {one.order for one in told} == {"install"}
    assert not rules.step(made, NOW_US)
    report(made, "UPDATED", count=2)
    assert not rules.step(made, NOW_US)
    assert not rules.step(made, NOW_US + 59 * SECOND_US)
    assert len(rules.step(made, NOW_US + 60 * SECOND_US)) == 8
    report(made, "UPDATED", count=8)
    rules.step(made, NOW_US + 61 * SECOND_US)
    assert standing(made) == "finished"


def test_groups_by_percent_are_the_same_for_one_name_and_others_for_another() -> None:
    devices = [("b", f"d{number}") for number in range(100)]

    def canaries(name: str) -> set[tuple[str, str]]:
        plan = {"name": name, "release": "ab" * 32, "groups": [{"percent": 10}, {}]}
        made = Campaign(plan=read_plan(plan))
        rules.enlist(made, devices)
        return {key for key, member in made.members.items() if member.group == 0}

    assert len(canaries("a")) == 10
    assert canaries("a") == canaries("a")
    assert canaries("a") != canaries("b")


def test_who_comes_later_is_in_the_last_group() -> None:
    made = campaign(groups=[{"count": 1}, {}])
    assert rules.enlist(made, [("building-2", "hvac-001")]) == 1
    assert not rules.enlist(made, [("building-2", "hvac-001")])
    assert made.members["building-2", "hvac-001"].group == 1


def test_too_many_failures_pause_it_and_name_them() -> None:
    made = campaign(groups=[{"count": 5, "error_pct": 40, "min_executed": 5}, {}])
    rules.step(made, NOW_US)
    report(made, "ROLLED_BACK", count=2)
    rules.step(made, NOW_US)
    assert standing(made) == "running", "not enough have ended to judge by"
    report(made, "UPDATED", count=3)
    rules.step(made, NOW_US)
    assert (made.standing, made.why) == ("paused", "group 1: 2 of 5 failed")
    assert not rules.step(made, NOW_US)


def test_a_count_of_failures_pauses_it_at_once() -> None:
    made = campaign(groups=[{"error_count": 1, "min_executed": 10}])
    rules.step(made, NOW_US)
    report(made, "REJECTED", code="bad-signature")
    rules.step(made, NOW_US)
    assert standing(made) == "paused"


def test_resume_forgives_and_goes_on() -> None:
    made = campaign(groups=[{"error_count": 2}])
    rules.step(made, NOW_US)
    report(made, "ROLLED_BACK")
    report(made, "FAILED", code="download")
    rules.step(made, NOW_US)
    assert standing(made) == "paused"
    rules.resume(made)
    assert len(rules.step(made, NOW_US)) == 1, "the download is tried again, the bad image is not"
    report(made, "UPDATED", count=9)
    rules.step(made, NOW_US)
    assert standing(made) == "finished"


def test_a_group_that_ends_below_its_success_pauses() -> None:
    made = campaign(groups=[{"count": 2, "success_pct": 100, "error_pct": 100}, {}])
    rules.step(made, NOW_US)
    report(made, "UPDATED")
    report(made, "CANCELED")
    rules.step(made, NOW_US)
    assert standing(made) == "paused"
    assert "1 of 2 have it, 100 % are wanted" in made.why


def test_after_a_group_it_may_wait_for_a_person() -> None:
    made = campaign(groups=[{"count": 1, "on_success": "pause"}, {}])
    rules.step(made, NOW_US)
    report(made, "UPDATED")
    assert not rules.step(made, NOW_US)
    assert made.why == "group 1 has it: resume for the next"
    rules.resume(made)
    assert len(rules.step(made, NOW_US)) == 9


def test_the_rate_is_kept() -> None:
    made = campaign(size=30, rate_per_min=60)
    begun = [len(rules.step(made, NOW_US + second * SECOND_US)) for second in range(10)]
    assert sum(begun) <= 12
    assert max(begun) <= 3
    assert min(begun) >= 1


def test_nobody_begins_outside_the_window() -> None:
    midnight_us = NOW_US - NOW_US % (86_400 * SECOND_US)
    made = campaign(window="22:00-05:00")
    assert not rules.step(made, midnight_us + 12 * 3600 * SECOND_US)
    told = rules.step(made, midnight_us + 23 * 3600 * SECOND_US)
    assert len(told) == 10
    assert {one.until_s for one in told} == {midnight_us // SECOND_US + 29 * 3600}
    assert rules.window_end_s("22:00-05:00", midnight_us + 5 * 3600 * SECOND_US) is None
    assert rules.window_end_s("", 0) == 0


def test_a_silent_device_counts_as_a_failure_and_its_late_word_is_heard() -> None:
    made = campaign(size=1, deadlines_s={"ASSIGNED": 10})
    (told,) = rules.step(made, NOW_US)
    rules.step(made, NOW_US + 11 * SECOND_US)
    member = made.members[told.site, told.device]
    assert (member.state, member.code) == ("TIMED_OUT", "assigned")
    assert standing(made) == "paused"
    assert rules.heard(made, member, Report(number=2, state="UPDATED"), NOW_US)
    rules.resume(made)
    rules.step(made, NOW_US + 12 * SECOND_US)
    assert standing(made) == "finished"


def test_progress_of_a_download_keeps_its_deadline_away() -> None:
    made = campaign(size=1, deadlines_s={"DOWNLOADING": 10})
    rules.step(made, NOW_US)
    ((_, member),) = made.members.items()
    for second in range(5, 50, 5):
        said = Report(number=second, state="DOWNLOADING", chunks=100, chunks_done=second)
        assert rules.heard(made, member, said, NOW_US + second * SECOND_US)
        rules.step(made, NOW_US + second * SECOND_US)
    assert member.state == "DOWNLOADING"
    rules.step(made, NOW_US + 60 * SECOND_US)
    assert made.members["building-1", "hvac-000"].state == "TIMED_OUT"


def test_a_failure_is_tried_again_as_often_as_the_plan_says() -> None:
    made = campaign(size=1, retries=1, groups=[{"error_pct": 100}])
    for _ in range(2):
        assert len(rules.step(made, NOW_US)) == 1
        report(made, "FAILED", code="download")
    assert not rules.step(made, NOW_US)
    assert standing(made) == "paused"


def test_abort_tells_who_is_not_past_recall() -> None:
    made = campaign(size=4, groups=[{"count": 3}, {}])
    rules.step(made, NOW_US)
    for state in ("DOWNLOADING", "UPDATING", "UPDATED"):
        key = assigned(made)[0]
        rules.heard(made, made.members[key], Report(number=1, state=state), NOW_US)
    told = rules.abort(made, "by ann")
    assert [(one.order, made.members[one.site, one.device].state) for one in told] == [
        ("cancel", "DOWNLOADING")
    ]
    assert (made.standing, made.why) == ("aborted", "by ann")
    assert not rules.step(made, NOW_US)
    assert not rules.abort(made, "again")
    states: list[MemberState] = [member.state for member in made.members.values()]
    assert sorted(states) == ["CANCELED", "DOWNLOADING", "UPDATED", "UPDATING"]


def test_a_report_changes_nothing_twice_nor_backwards() -> None:
    made = campaign(size=1)
    ((_, member),) = made.members.items()
    assert not rules.heard(made, member, Report(number=1, state="WAITING"), NOW_US)
    rules.step(made, NOW_US)
    assert rules.heard(made, member, Report(number=2, state="UPDATED"), NOW_US)
    assert not rules.heard(made, member, Report(number=3, state="UPDATED"), NOW_US)
    assert not rules.heard(made, member, Report(number=4, state="IDLE"), NOW_US)


@pytest.mark.parametrize("executed", [0, 1])
def test_no_failure_never_pauses(executed: int) -> None:
    group = read_plan({"name": "a", "release": "ab" * 32, "groups": [{"error_pct": 0}]}).groups[0]
    assert not rules.has_failed(group, Tally(size=5, executed=executed, succeeded=executed))


@given(st.data())
def test_whatever_devices_say_it_ends_or_waits_for_a_person(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), max_size=3))
    groups = [{"count": size, "error_pct": 50} for size in sizes] + [{"error_pct": 50}]
    made = campaign(size=data.draw(st.integers(0, 12)), groups=groups, retries=1)
    now_us = NOW_US
    for _ in range(200):
        now_us += 90_000 * SECOND_US  # beyond each deadline
        told = rules.step(made, now_us)
        assert made.standing != "running" or told or made.members
        if made.standing != "running":
            break
        for one in told:
            state = data.draw(st.sampled_from(STATES))
            member = made.members[one.site, one.device]
            assert member.group <= made.group
            rules.heard(made, member, Report(number=1, state=state), now_us)
    assert made.standing in {"paused", "finished"}
    if made.standing == "finished":
        ended = {member.state for member in made.members.values()}
        assert ended <= FINAL_STATES
        assert SUCCESSES <= FINAL_STATES
