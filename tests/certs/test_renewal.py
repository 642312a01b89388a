"""When renewals happen, as pure arithmetic."""

from hypothesis import given, settings
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
    schedule.failed(100, ValueError(), retry_s=5)
    assert (schedule.failures, schedule.due_s) == (1, 105)


def test_who_is_in_a_hurry_renews_at_once() -> None:
    schedule = Schedule(lambda: 0.5)
    schedule.renewed(100, 300)
    assert not schedule.due(150)
    schedule.hurry()
    assert schedule.due(150)


def test_a_clock_that_steps_back_does_not_put_off_a_retry() -> None:
    schedule = Schedule(lambda: 1.0)
    schedule.failed(1_000_000, OSError("x"))
    assert schedule.due(0)


HOUR_S, DAYS_S = 3600, 72 * 3600


@settings(max_examples=30, deadline=None)
@given(st.lists(chances, min_size=1, max_size=50), st.integers(0, 71), st.integers(1, 25))
def test_through_72_hours_an_svid_never_expires_where_its_issuer_is_at_hand(
    drawn: list[float], fails_at_h: int, fails: int
) -> None:
    """The building's own issuer is; a fault of it (a full disk) is retried within a minute."""
    turn = iter(range(10_000))
    schedule = Schedule(lambda: drawn[next(turn) % len(drawn)])
    now_s, not_after_s, renewals, left = 0.0, HOUR_S, 0, fails
    schedule.renewed(0, HOUR_S)
    while now_s < DAYS_S:
        now_s = schedule.due_s
        assert now_s < not_after_s
        if left and now_s >= fails_at_h * HOUR_S:
            left -= 1
            schedule.failed(now_s, OSError("full"))
            continue
        not_after_s, renewals = int(now_s) + HOUR_S, renewals + 1
        schedule.renewed(int(now_s), not_after_s)
    assert 72 * 1.7 <= renewals <= 72 * 2.3


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=50))
def test_through_72_hours_without_an_issuer_it_asks_every_minute_and_comes_back_within_one(
    drawn: list[float],
) -> None:
    turn = iter(range(100_000))
    schedule = Schedule(lambda: drawn[next(turn) % len(drawn)])
    schedule.renewed(0, HOUR_S)
    now_s, asked = schedule.due_s, 0
    while now_s < DAYS_S:  # every renewal fails, also once the SVID has expired
        schedule.failed(now_s, OSError("no cloud"))
        asked += 1
        assert schedule.due_s - now_s <= RETRY_S_MAX + 0.001
        now_s = schedule.due_s
    assert asked >= (DAYS_S - HOUR_S) / RETRY_S_MAX - 1
    schedule.renewed(int(now_s), int(now_s) + HOUR_S)
    assert now_s - DAYS_S <= RETRY_S_MAX + 0.001
    assert schedule.failures == 0


def test_an_svid_from_a_clock_that_was_ahead_is_renewed_once_it_is_set_back() -> None:
    schedule = Schedule(chance=lambda: 0.5)
    schedule.renewed(100_000, 103_600)
    assert not schedule.due(100_010)
    assert not schedule.due(99_996), "peers' clocks differ by as much"
    assert schedule.due(50_000)
    schedule.renewed(100_000, 103_600)  # from an issuer whose clock is still ahead
    assert not schedule.due(50_030)
    assert schedule.due(50_061)
    schedule.renewed(50_061, 53_661)
    assert not schedule.due(50_200)
    schedule.renewed(100_000, 103_600)
    schedule.failed(50_200, ValueError())
    assert not schedule.due(50_200), "a failure has a pace of its own"
