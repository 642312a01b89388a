"""What a client has not read: a burst of its queue is fine, more or no progress is not."""

from plantroom.broker.runs import US_PER_S
from plantroom.broker.settings import BrokerLimits


class Unread:
    """Judges one connection's write buffer."""

    __slots__ = ("_bytes_max", "_low_bytes", "_low_us", "_patience_us", "burst_bytes")

    def __init__(self, limits: BrokerLimits) -> None:
        self._bytes_max = limits.outbound_bytes_max
        self._patience_us = int(limits.slow_consumer_s * US_PER_S)
        self.burst_bytes = 0  # what was queued and is written at once: it may take its time
        self._low_bytes = 0  # the least that there was, and since when
        self._low_us: int | None = None

    def too_much(self, unread_bytes: int) -> bool:
        """Say whether there is more than a burst and the limit."""
        return unread_bytes > self.burst_bytes + self._bytes_max

    def stuck(self, unread_bytes: int, now_us: int) -> bool:
        """Say whether it is over the limit and has not become less for too long."""
        if unread_bytes <= self._bytes_max:
            self._low_us = None
            return False
        if self._low_us is None or unread_bytes < self._low_bytes:
            self._low_us, self._low_bytes = now_us, unread_bytes
        return now_us - self._low_us > self._patience_us
