"""The doorway: connections that have not got through CONNECT, so that none can keep others out.

TLS handshakes take turns, and one address has only some of the turns; a connection that is not
through in time, or one too many of its address, is closed. Whoever is through is not counted here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plantroom.broker.settings import BrokerLimits


class Place:
    """One connection on its way in; left once, however it ends."""

    __slots__ = ("_doorway", "host")

    def __init__(self, doorway: "Doorway", host: str) -> None:
        self._doorway: Doorway | None = doorway
        self.host = host

    def leave(self) -> None:
        """Be through, or gone."""
        doorway, self._doorway = self._doorway, None
        if doorway is not None:
            doorway.left(self.host)


class Doorway:
    """Everybody who is on the way in, by address."""

    def __init__(self, limits: BrokerLimits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.handshakes_max)
        self._waiting: Counter[str] = Counter()
        self._turns_of: dict[str, asyncio.Semaphore] = {}
        self.handshakes = 0  # sockets that are not a connection yet

    def __len__(self) -> int:
        return self._waiting.total()

    def enter(self, host: str) -> Place | None:
        """Give a place to a connection from this address, None when it has too many."""
        if self._waiting[host] >= self._limits.address_waiting_max:
            return None
        self._waiting[host] += 1
        return Place(self, host)

    def left(self, host: str) -> None:
        """Take a place back."""
        self._waiting[host] -= 1
        if not self._waiting[host]:
            del self._waiting[host]
            self._turns_of.pop(host, None)

    @asynccontextmanager
    async def turn(self, place: Place) -> AsyncIterator[None]:
        """Wait for a turn to shake hands.

        Raises:
            TimeoutError: when there is none in time.
        """
        host = place.host
        own = self._turns_of.setdefault(
            host, asyncio.Semaphore(self._limits.address_handshakes_max)
        )
        self.handshakes += 1
        try:
            async with asyncio.timeout(self._limits.handshake_timeout_s) as deadline:
                async with own, self._turns:
                    deadline.reschedule(None)  # the handshake has a time of its own
                    yield
        finally:
            self.handshakes -= 1
