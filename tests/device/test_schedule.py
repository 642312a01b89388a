import pytest

from plantroom.device.schedule import CATCH_UP_MAX, Schedule

S = 1_000_000


def test_first_instant_is_at_once_and_the_others_keep_to_the_grid() -> None:
    schedule = Schedule(start_us=5 * S, period_us=60 * S)
    assert schedule.due_in_us(5 * S) == 0
    assert schedule.due(5 * S, 10) == [5 * S]
    assert schedule.due_in_us(6 * S) == 59 * S
    assert schedule.due(66 * S, 10) == [65 * S]  # a second late
    assert schedule.due_in_us(66 * S) == 59 * S  # not a second longer


def test_nothing_is_due_before_its_time() -> None:
    schedule = Schedule(start_us=S, period_us=S)
    assert schedule.due(0, 10) == []
    assert schedule.due_in_us(0) == S


def test_a_slow_moment_is_made_up_for() -> None:
    schedule = Schedule(start_us=0, period_us=S)
    assert schedule.due(3 * S + 1, 10) == [0, S, 2 * S, 3 * S]
    assert schedule.missed == 0


def test_what_one_call_does_not_take_the_next_one_does() -> None:
    schedule = Schedule(start_us=0, period_us=S)
    assert schedule.due(3 * S, 2) == [0, S]
    assert schedule.due_in_us(3 * S) == 0
    assert schedule.due(3 * S, 2) == [2 * S, 3 * S]


def test_a_long_pause_is_not_made_up_for_but_counted() -> None:
    schedule = Schedule(start_us=0, period_us=S)
    due = schedule.due(1000 * S, 10_000)
    assert len(due) == CATCH_UP_MAX
    assert due[-1] == 1000 * S
    assert schedule.missed == 1001 - CATCH_UP_MAX


def test_period_has_to_be_one() -> None:
    with pytest.raises(ValueError, match="period"):
        Schedule(start_us=0, period_us=0)
