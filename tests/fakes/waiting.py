"""Bounded waits on a condition that another process brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


def until(claim: Callable[[], T], *, deadline_s: float, what: str = "the condition") -> T:
    """Ask until the claim holds (is truthy), and return its value; fail at the deadline."""
    give_up_s = time.monotonic() + deadline_s
    while not (value := claim()):
        if time.monotonic() >= give_up_s:
            raise AssertionError(f"{what} did not come about within {deadline_s:g} s")
        time.sleep(POLL_S)
    return value
