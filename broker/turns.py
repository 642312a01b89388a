"""Whose turn it is to be read, where all together bring more than may wait for the disk.

The bound is over all connections, not for each. Nobody is passed over.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

DISK: Final = 1  # why a connection waits
ROOM: Final = 2


class Waiting(Protocol):
    """A connection, as far as it waits."""

    turn: int  # when it brought something last, counted over all connections

    def resume(self, why: int = DISK) -> None:
        """Read on, if nothing else is waited for."""
        ...


class Turns:
    """Connections that wait until less waits for the disk; who was heard longest ago is first.

    The first goes on alone, so that nobody takes the room from it, then two, then four: as soon as
    those bring too much, everybody waits again.
    """

    def __init__(self, deep: Callable[[], bool]) -> None:
        self._deep = deep
        self._waiting: deque[Waiting] = deque()
        self._next: asyncio.Handle | None = None
        self._at_once = 1

    def wait(self, outlet: Waiting) -> None:
        """Resume this connection when its turn comes."""
        self._waiting.append(outlet)

    def begin(self) -> None:
        """Let them go on: there is room again."""
        if self._waiting and self._next is None:
            self._waiting = deque(sorted(self._waiting, key=lambda outlet: outlet.turn))
            self._at_once = 1
            self._go_on()

    def _go_on(self) -> None:
        self._next = None
        for _ in range(min(self._at_once, len(self._waiting))):
            if self._deep():
                return  # and `begin` comes with the next group
            self._waiting.popleft().resume()
        self._at_once *= 2
        if self._waiting:
            self._next = asyncio.get_running_loop().call_soon(self._go_on)
