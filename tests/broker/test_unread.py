from plantroom.broker.settings import BrokerLimits
from plantroom.broker.unread import Unread

LIMITS = BrokerLimits(outbound_bytes_max=65_536, slow_consumer_s=10.0)
S = 1_000_000


def test_burst_is_allowed_and_the_limit_beyond_it() -> None:
    unread = Unread(LIMITS)
    assert not unread.too_much(65_536)
    assert unread.too_much(65_537)
    unread.burst_bytes = 1_000_000
    assert not unread.too_much(1_065_536)
    assert unread.too_much(1_065_537)


def test_who_reads_a_little_is_not_stuck() -> None:
    unread = Unread(LIMITS)
    assert not unread.stuck(200_000, 0)
    assert not unread.stuck(200_000, 9 * S)
    assert not unread.stuck(199_000, 11 * S)
    assert not unread.stuck(199_000, 21 * S)
    assert unread.stuck(199_000, 22 * S)


def test_time_begins_anew_when_it_was_read() -> None:
    unread = Unread(LIMITS)
    assert not unread.stuck(200_000, 0)
    assert not unread.stuck(65_536, 11 * S)
    assert not unread.stuck(200_000, 12 * S)
    assert unread.stuck(200_000, 23 * S)
