"""When samples are due: every period on the monotonic clock, online or not, without drift."""

CATCH_UP_MAX = 100


class Schedule:
    """A grid of instants (microseconds, monotonic), the first one at once.

    Whoever comes late is given the instants that have passed, so that nothing is missing after a
    slow moment; more than `CATCH_UP_MAX` of them are not made up for, but counted as `missed`.
    """

    def __init__(self, *, start_us: int, period_us: int) -> None:
        if period_us < 1:
            raise ValueError(f"period is {period_us} us")
        self._next_us = start_us
        self._period_us = period_us
        self.missed = 0

    def due_in_us(self, now_us: int) -> int:
        """Say how long until the next instant; 0: it has come."""
        return max(0, self._next_us - now_us)

    def due(self, now_us: int, count_max: int) -> list[int]:
        """Take the instants that have come, oldest first."""
        behind = (now_us - self._next_us) // self._period_us + 1
        if behind > CATCH_UP_MAX:
            self.missed += behind - CATCH_UP_MAX
            self._next_us += (behind - CATCH_UP_MAX) * self._period_us
            behind = CATCH_UP_MAX
        count = max(0, min(behind, count_max))
        first_us = self._next_us
        self._next_us += count * self._period_us
        return [first_us + number * self._period_us for number in range(count)]
