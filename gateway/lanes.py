"""What is in the air: batches, windows, resends, halves. Pure: no clock, no link, no database.

A batch is `(incarnation, number)`. It is resent unchanged with back-off until it is answered. One
that cannot be read is replaced by its halves, which get new numbers, go first and count as one in
the window, until the culprit is alone.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from plantroom.gateway.answers import Sent
from plantroom.wire.envelope import Author, Lane

WINDOW: Final = 16
LANES: Final[tuple[Lane, ...]] = ("live", "backfill")
_RESEND_US_MIN: Final = 2_000_000
_RESEND_US_MAX: Final = 60_000_000
_UNANSWERED_MAX: Final = 6  # sent so often while others got answers: taken for unreadable
_SLOW_US: Final = 10_000
_FIRST: Final = 2.0  # the backfill window of a new link

NoteSent = tuple[int, tuple[Author, int, int]]


@dataclass(slots=True, kw_only=True)
class Flight:
    """A batch on its way: what it carries, and how often it was sent.

    `family` is the number of the batch that this one is a part of (its own, when it is whole).
    """

    number: int
    lane: Lane
    rows: tuple[Sent, ...]
    notes: tuple[NoteSent, ...] = ()
    family: int
    payload: bytes | None = None
    attempts: int = 0
    sent_at_us: int = 0
    due_us: int = 0
    answered_before: int = 0

    @property
    def size(self) -> int:
        """Count the readings and notes in it."""
        return len(self.rows) + len(self.notes)


@dataclass(slots=True)
class _LaneState:
    in_air: dict[int, Flight] = field(default_factory=dict)
    first: deque[Flight] = field(default_factory=deque)
    window: float = WINDOW


class Lanes:
    """The batches of one incarnation, in both lanes.

    The backfill window begins small on every link, grows by one a round trip, shrinks when answers
    slow down and halves when they stay away (additive increase, multiplicative decrease), so that
    live finds the link free.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._next = 0
        self._lanes = {lane: _LaneState(window=window) for lane in LANES}
        self._begin_small()
        self._answered = 0
        self._fastest_us: int | None = None
        self.round_trip_us = 0

    def _begin_small(self) -> None:
        self._lanes["backfill"].window = min(_FIRST, self._window)

    def __len__(self) -> int:
        return sum(len(state.in_air) for state in self._lanes.values())

    def get(self, number: int) -> Flight | None:
        """Return the batch with this number, if it is still in the air."""
        for state in self._lanes.values():
            if number in state.in_air:
                return state.in_air[number]
        return None

    def room(self, lane: Lane) -> bool:
        """Say whether one more batch may take off in this lane."""
        state = self._lanes[lane]
        families = {flight.family for flight in state.in_air.values()}
        return not state.first and len(families) < max(1, int(state.window))

    def launch(
        self, lane: Lane, rows: tuple[Sent, ...], notes: tuple[NoteSent, ...] = ()
    ) -> Flight:
        """Put a new batch in the air, under the next number."""
        return self._add(lane, rows, notes, None)

    def _add(
        self,
        lane: Lane,
        rows: tuple[Sent, ...],
        notes: tuple[NoteSent, ...],
        family: int | None,
    ) -> Flight:
        number = self._next
        self._next += 1
        flight = Flight(
            number=number,
            lane=lane,
            rows=rows,
            notes=notes,
            family=number if family is None else family,
            answered_before=self._answered,
        )
        self._lanes[lane].in_air[number] = flight
        return flight

    def sent(self, flight: Flight, now_us: int) -> None:
        """Note that a batch went out, and when it is due again."""
        flight.attempts += 1
        flight.sent_at_us = now_us
        wait = max(_RESEND_US_MIN, 4 * self.round_trip_us) << min(flight.attempts - 1, 5)
        flight.due_us = now_us + min(wait, _RESEND_US_MAX)

    def answered(self, number: int, now_us: int) -> Flight | None:
        """Take an answered batch out of the air; None when it is not (or no longer) there."""
        flight = self.get(number)
        if flight is None:
            return None
        state = self._lanes[flight.lane]
        del state.in_air[number]
        self._answered += 1
        if flight.attempts == 1:
            self._measure(now_us - flight.sent_at_us)
        return flight

    def _measure(self, took_us: int) -> None:
        self._fastest_us = min(took_us, self._fastest_us or took_us)
        self.round_trip_us = (7 * self.round_trip_us + took_us) // 8 or took_us
        state = self._lanes["backfill"]
        if took_us > 2 * self._fastest_us + _SLOW_US:
            state.window = max(1.0, state.window * 0.9)
        else:
            state.window = min(float(self._window), state.window + 1.0 / state.window)

    def halve(self, flight: Flight) -> list[Flight]:
        """Replace an unreadable batch (already taken out) by its halves.

        Returns nothing when it held one reading or one note: that is the culprit.
        """
        if flight.size <= 1:
            return []
        if flight.rows and flight.notes:
            parts = [(flight.rows, ()), ((), flight.notes)]
        else:
            at, beside = len(flight.rows) // 2, len(flight.notes) // 2
            parts = [
                (flight.rows[:at], flight.notes[:beside]),
                (flight.rows[at:], flight.notes[beside:]),
            ]
        halves = [self._add(flight.lane, *part, flight.family) for part in parts]
        self._lanes[flight.lane].first.extend(halves)
        return halves

    def first(self, lane: Lane) -> Flight | None:
        """Return the next half that goes before anything new."""
        waiting = self._lanes[lane].first
        while waiting:
            flight = waiting.popleft()
            if flight.number in self._lanes[lane].in_air:
                return flight
        return None

    def due(self, now_us: int) -> list[Flight]:
        """Return the batches whose answer is overdue, oldest first."""
        flights = [
            flight
            for state in self._lanes.values()
            for flight in state.in_air.values()
            if flight.attempts and flight.due_us <= now_us
        ]
        if any(flight.lane == "backfill" for flight in flights):
            state = self._lanes["backfill"]
            state.window = max(1.0, state.window / 2)
        return sorted(flights, key=lambda flight: flight.number)

    def next_due_us(self) -> int | None:
        """Return when the next answer is overdue."""
        times = [
            flight.due_us
            for state in self._lanes.values()
            for flight in state.in_air.values()
            if flight.attempts
        ]
        return min(times, default=None)

    def looks_unreadable(self, flight: Flight) -> bool:
        """Say whether a batch was sent several times without an answer while others got theirs."""
        others = self._answered - flight.answered_before
        return flight.attempts >= _UNANSWERED_MAX and others >= _UNANSWERED_MAX

    def reconnected(self, now_us: int) -> list[Flight]:
        """Begin again on a new link, and return what is still in the air.

        What the old link did with a batch is unknown: all are due at once. A batch that was never
        sent is given up; its readings are still in the queue.
        """
        self._begin_small()
        kept = []
        for state in self._lanes.values():
            halves = {flight.number for flight in state.first}
            for flight in list(state.in_air.values()):
                if not flight.attempts and flight.number not in halves:
                    del state.in_air[flight.number]
                    continue
                if flight.attempts:
                    flight.due_us = now_us
                    flight.attempts = 1
                    flight.answered_before = self._answered
                kept.append(flight)
        return kept
