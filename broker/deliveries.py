"""Deliveries: what of a run goes to one session, and under which packet ids."""

from collections import deque
from collections.abc import Set as AbstractSet
from typing import Final

from plantroom.broker.packets import V5
from plantroom.broker.runs import Origin, Run
from plantroom.broker.tree import Grant, Match

IDS = 65_535
NO_IDS: Final[frozenset[int]] = frozenset()  # thousands of sessions share it: each has 216 bytes
RUN_BYTES, MESSAGE_BYTES = 600, 48  # what Python adds


# What a delivery refers to when nothing of it is needed any more.
GONE = Run(Origin(0, "", ""), b"", version=V5, match=Match(), at_us=0)


class Delivery:
    """Part of a run on its way to one session: `count` messages from the run's number `first` on.

    `position` is where they start in the run's data, -1 if it has to be looked for.
    """

    __slots__ = ("count", "dup", "first", "grant", "ordinal", "position", "qos", "released", "run")

    def __init__(  # noqa: PLR0913, PLR0917 -- a record, made a hundred thousand times a second
        self,
        run: Run,
        grant: Grant,
        qos: int,
        ordinal: int,
        first: int,
        count: int,
        position: int,
        dup: bool,  # noqa: FBT001
        released: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.run = run
        self.grant = grant
        self.qos = qos
        self.ordinal = ordinal
        self.first = first
        self.count = count
        self.position = position
        self.dup = dup
        self.released = released

    def part(self, skip: int, count: int, *, dup: bool) -> "Delivery":
        """Return `count` messages of it, from number `skip` on."""
        ordinal, first = self.ordinal + skip, self.first + skip
        return Delivery(
            self.run, self.grant, self.qos, ordinal, first, count, -1, dup, self.released
        )


def unfinished(flight: Delivery, acknowledged: AbstractSet[int]) -> list[Delivery]:
    """Return what of a delivery is not acknowledged, to be sent with DUP [MQTT-3.3.1-1]."""
    if not acknowledged:
        return [flight.part(0, flight.count, dup=True)]
    return [
        flight.part(number, 1, dup=True)
        for number in range(flight.count)
        if flight.ordinal + number not in acknowledged
    ]


def cost(run: Run, count: int) -> int:
    """Return what `count` messages of a run take of memory, about; sums up without a remainder."""
    return ((len(run.data) + RUN_BYTES) // run.count + MESSAGE_BYTES) * count


def packet_id(ordinal: int) -> int:
    """Return the packet id of an ordinal: 1 to 65535, in turn."""
    return ordinal % IDS + 1


class _Unopened(deque[Delivery]):
    """A queue that nothing was put into yet; nothing can be."""

    append = extend = None  # type: ignore[assignment]  # a mistake shows at once


# Most of ten thousand sessions only publish, and a queue takes 760 bytes before it holds anything.
UNOPENED: Final = _Unopened()
