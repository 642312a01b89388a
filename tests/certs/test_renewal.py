"""When renewals happen, as pure arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from plantroom.certs.renewal import RETRY_S_MAX, Schedule, renew_at_s, retry_after_s

chances = st.floats(0, 1)


@given(st.integers(0, 2**31), st.integers(2, 7 * 86_400), chances)
def test_renewal_is_at_half_life_give_or_take_a_tenth(
    start_s: int, life_s: int, chance: float
) -> None:
    at_s = renew_at_s(start_s, start_s + life_s, chance=chance)
    assert 0.4499 * life_s <= at_s - start_s <= 0.5501 * life_s


@given(st.integers(1, 10_000), chances)
def test_a_retry_waits_between_a_second_and_a_minute(failures: int, chance: float) -> None:
    assert 1 <= retry_after_s(failures, chance=chance) <= RETRY_S_MAX


def test_a_thousand_devices_do_not_come_in_the_same_minute() -> None:
    dues = []
    for _ in range(1000):
        schedule = Schedule()
        schedule.renewed(0, 3600)
        dues.append(int(schedule.due_s // 60))
    assert max(dues.count(minute) for minute in set(dues)) < 300


def test_a_new_schedule_is_due_and_a_success_clears_failures() -> None:
    schedule = Schedule(lambda: 0.5)
    assert schedule.due(0)
    schedule.failed(100, OSError("x"))
    assert not schedule.due(100)
    assert schedule.due(102)
    schedule.renewed(100, 300)
    assert (schedule.failures, schedule.last_error, schedule.due_s) == (0, None, 200)


def test_a_clock_that_steps_back_does_not_put_off_a_retry() -> None:
    schedule = Schedule(lambda: 1.0)
    schedule.failed(1_000_000, OSError("x"))
    assert schedule.due(0)
