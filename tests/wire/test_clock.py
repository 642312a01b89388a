"""Clocks: wall time may be wrong, monotonic time may not go back."""

import time

from plantroom.wire.clock import PLAUSIBLE_FROM_US, SystemClock, is_plausible


def test_the_system_clock_gives_microseconds_since_1970() -> None:
    before = time.time_ns() // 1000
    now = SystemClock().wall_us()
    assert before <= now <= time.time_ns() // 1000


def test_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    moments = [clock.monotonic_us() for _ in range(1000)]
    assert moments == sorted(moments)
    assert abs(moments[-1] - time.monotonic_ns() // 1000) < 60_000_000


def test_a_device_that_booted_in_1970_is_not_synchronised() -> None:
    assert not is_plausible(0)
    assert not is_plausible(PLAUSIBLE_FROM_US - 1)
    assert is_plausible(PLAUSIBLE_FROM_US)
    assert is_plausible(SystemClock().wall_us())


def test_plausible_time_begins_with_2026() -> None:
    assert time.gmtime(PLAUSIBLE_FROM_US / 1e6)[:6] == (2026, 1, 1, 0, 0, 0)
