"""The backlog: what of a durable session's queue is in the log only, as positions.

Its queue is the log on the disk. Memory holds a part of it, and only while the client is connected;
what does not fit is *behind*, and is read back in turn when there is room.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from plantroom.broker.deliveries import NO_IDS, UNOPENED, Delivery
from plantroom.broker.runs import Run
from plantroom.broker.sink import Cursor
from plantroom.broker.tree import Grant

Stored = tuple[Run, Grant, int, int]  # run, grant, QoS, first ordinal


class Backlog:
    """Positions in a session's queue, as ordinals."""

    __slots__ = ("aside", "doubtful", "finished", "flown", "loaded", "released", "stored")

    def __init__(self) -> None:
        self.stored = 0  # behind the last message that the log has for it
        self.loaded = 0  # up to here that is in memory or done with
        self.flown = 0  # below it everything was sent, by some connection
        self.doubtful = False  # whether all that is behind is still wanted
        self.finished: frozenset[int] = NO_IDS  # done out of turn on a former connection
        self.released: set[int] = set()  # QoS 2: PUBREC has come, PUBCOMP not
        self.aside: deque[Delivery] = UNOPENED  # volatile, in turn behind what is to be loaded

    @property
    def behind(self) -> bool:
        """Whether the log has messages that are not in memory."""
        return self.loaded < self.stored

    def restore(self, cursor: Cursor, stored: int, released: set[int], finished: set[int]) -> None:
        """Start where the disk says; what is not done is behind."""
        self.flown = cursor.sent
        self.stored = stored
        self.loaded = min(cursor.done, stored)
        self.doubtful = self.behind
        self.released, self.finished = released, frozenset(finished) or NO_IDS

    def put_aside(self, delivery: Delivery) -> None:
        """Keep a volatile one until it is its turn."""
        if self.aside is UNOPENED:
            self.aside = deque()
        self.aside.append(delivery)

    def load(
        self, runs: Iterable[Stored], end: int, skip: frozenset[int] = NO_IDS
    ) -> Iterator[Delivery]:
        """Give, in turn, what is to be queued of all that is stored below `end`."""
        for run, grant, qos, ordinal in runs:
            while self.aside and self.aside[0].ordinal < ordinal:
                yield self.aside.popleft()
            whole = Delivery(run, grant, qos, ordinal, 0, run.count, -1, dup=False)
            yield from self._unfinished(whole, skip)
        self.loaded = max(self.loaded, end)
        if not self.behind:
            self.doubtful = False
            yield from self.aside
            self.aside.clear()

    def _unfinished(self, whole: Delivery, skip: frozenset[int]) -> Iterator[Delivery]:
        """Give of one run what is not done; what was sent before comes one by one, with DUP."""
        number = max(self.loaded - whole.ordinal, 0)
        while number < whole.count:
            ordinal = whole.ordinal + number
            if ordinal >= self.flown:
                count = 1 if skip else whole.count - number
                part = whole.part(number, count, dup=False)
            else:  # [MQTT-3.3.1-1]
                part = whole.part(number, 1, dup=True)
                part.released = ordinal in self.released
            number += part.count
            if ordinal not in self.finished and ordinal not in skip:
                yield part

    def leave(self, done: int, acknowledged: Iterable[int], volatile: Iterable[Delivery]) -> None:
        """Start again at `done`: the connection is gone, memory keeps what only it has."""
        self.finished = frozenset(n for n in (*self.finished, *acknowledged) if n >= done) or NO_IDS
        self.aside = deque(volatile) or UNOPENED
        self.loaded = min(done, self.stored)

    def clear(self) -> None:
        """Forget everything."""
        self.loaded = self.stored = 0
        self.aside.clear()
