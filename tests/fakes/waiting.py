"""Bounded waits on a condition that another process brings about."""

import asyncio
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


async def eventually(claim: Callable[[], object], *, deadline_s: float = 20.0) -> None:
    """Let others run until the claim holds: what it asks about has no event (files, threads)."""
    async with asyncio.timeout(deadline_s):
        while not claim():  # noqa: ASYNC110 -- as said
            await asyncio.sleep(POLL_S / 2)
