import threading
import time

from plantroom.device.waker import Waker


def test_wake_before_or_during_a_wait_ends_it() -> None:
    waker, begun_s = Waker(), time.monotonic()
    waker.wake()
    waker.wait(60)
    threading.Timer(0.05, waker.wake).start()
    waker.wait(60)
    assert time.monotonic() - begun_s < 30
    waker.close()


def test_many_wakes_never_block_and_are_one() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.clear()
    begun_s = time.monotonic()
    waker.wait(0.05)
    assert time.monotonic() - begun_s >= 0.04
    waker.close()


def test_close_may_be_repeated_and_waking_then_does_nothing() -> None:
    waker = Waker()
    waker.close()
    waker.close()
    waker.wake()
