"""When an SVID is renewed: near half its life, each at another moment so that not all come at once.

After a failure the next try waits with full jitter, longer each time. No I/O, no asyncio: the
device uses this too.
"""

import random
from collections.abc import Callable

JITTER = 0.1
RETRY_S_MIN, RETRY_S_MAX = 1.0, 60.0
AHEAD_S = 5.0  # an SVID that begins so much later than now was issued by a clock that was ahead


def renew_at_s(not_before_s: int, not_after_s: int, *, chance: float) -> float:
    """Return when to renew: half life ± 10 %; `chance` from 0 to 1 picks where in that span."""
    half_s = (not_after_s - not_before_s) / 2
    return not_before_s + half_s * (1 - JITTER + 2 * JITTER * chance)


def retry_after_s(failures: int, *, chance: float) -> float:
    """Return how long to wait after this many failures in a row: full jitter, 1 s to 1 min."""
    ceiling_s = min(RETRY_S_MAX, RETRY_S_MIN * float(1 << min(failures, 10)))
    return RETRY_S_MIN + (ceiling_s - RETRY_S_MIN) * chance


class Schedule:
    """When the next renewal is due, as wall time in seconds, and how the last one went."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._due_s = 0.0
        self._begins_s = 0.0
        self._ahead_s = -RETRY_S_MAX
        self.failures = 0
        self.last_error: Exception | None = None

    @property
    def due_s(self) -> float:
        """When to renew next."""
        return self._due_s

    def renewed(self, not_before_s: int, not_after_s: int) -> None:
        """Note a success, or an SVID that was found."""
        self.failures = 0
        self.last_error = None
        self._begins_s = not_before_s
        self._due_s = renew_at_s(not_before_s, not_after_s, chance=self._chance())

    def failed(self, now_s: float, error: Exception, *, retry_s: float | None = None) -> None:
        """Note a failure; `retry_s`: the wait until the next try, where the caller has its own."""
        self.failures += 1
        self.last_error = error
        if retry_s is None:
            retry_s = retry_after_s(self.failures, chance=self._chance())
        self._due_s = now_s + retry_s

    def hurry(self) -> None:
        """Renew with the next look: what the answer brings is wanted now."""
        self._due_s = 0.0

    def due(self, now_s: float) -> bool:
        """Say whether to renew now; a clock that stepped back does not put off a retry."""
        if now_s >= self._due_s or self._is_ahead(now_s):
            return True
        return self.failures > 0 and self._due_s - now_s > RETRY_S_MAX

    def _is_ahead(self, now_s: float) -> bool:
        """Say, at most once a minute, that nobody takes this SVID yet: a clock was set back."""
        if self.failures or self._begins_s <= now_s + AHEAD_S:
            return False
        if 0 <= now_s - self._ahead_s < RETRY_S_MAX:
            return False
        self._ahead_s = now_s
        return True
