"""A circuit breaker: after some failures in a row, nobody waits for what does not answer."""

from typing import Literal

State = Literal["closed", "half-open", "open"]


class Breaker:
    """Closed: everything passes. Open: nothing, for a while that doubles. Half-open: one trial.

    Time is given to it, in seconds that only rise.
    """

    def __init__(
        self, *, failures_max: int = 5, first_s: float = 0.5, longest_s: float = 10.0
    ) -> None:
        self._failures_max = failures_max
        self._first_s, self._longest_s = first_s, longest_s
        self._pause_s = first_s
        self._failures = 0
        self._until_s = 0.0
        self.state: State = "closed"
        self.openings = 0

    def admits(self, now_s: float) -> bool:
        """Say whether a try may be made now; a half-open breaker lets one through."""
        if self.state == "closed":
            return True
        if now_s < self._until_s:
            return False
        self.state = "half-open"
        self._until_s = now_s + self._pause_s  # should the trial end without a word
        return True

    def succeeded(self) -> None:
        """Note an answer: closed again."""
        self.state, self._failures, self._pause_s = "closed", 0, self._first_s

    def failed(self, now_s: float) -> None:
        """Note that none came: open after several in a row, or after the one trial."""
        self._failures += 1
        if self.state == "open" or (self.state == "closed" and self._failures < self._failures_max):
            return
        if self.state == "half-open":
            self._pause_s = min(self._pause_s * 2, self._longest_s)
        self.state, self._until_s = "open", now_s + self._pause_s
        self.openings += 1
