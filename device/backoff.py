"""How long to wait before the next try: exponential, with full jitter."""

from collections.abc import Callable


class Backoff:
    """Waits grow from `first_s` to `max_s`; each is drawn from the whole span below its limit.

    `uniform(low, high)` draws; a simulation brings its own.
    """

    def __init__(
        self, *, first_s: float, max_s: float, uniform: Callable[[float, float], float]
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self._tries = 0

    def next_s(self) -> float:
        """Draw the next wait; a tenth of the limit is the least, so that nothing spins."""
        limit_s = min(self._max_s, self._first_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return self._uniform(limit_s / 10, limit_s)

    def reset(self) -> None:
        """Begin anew: something worked."""
        self._tries = 0
