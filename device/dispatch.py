"""What to send next, and what an answer means: the rules of the uplink, without a network.

A few packs are in the air at a time. An answer below 0x80 marks readings sent. A refusal keeps
them: wait, send again in halves; a single reading that is refused for its own sake is parked, and
the next ones go ahead. Source: the delivery rules in docs/architecture.md, hop 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from plantroom.device.backoff import Backoff
from plantroom.device.outbox import Outbox
from plantroom.device.ring import Key
from plantroom.wire import envelope, senml
from plantroom.wire.envelope import Note, Notes
from plantroom.wire.reading import Reading

REFUSED_FROM = 0x80
NOT_AUTHORISED, QUOTA_EXCEEDED = 0x87, 0x97  # not the reading's fault  # MQTT5 3.4.2.1
TOO_LARGE = 0x95
WAIT_FIRST_S, WAIT_S_MAX = 1.0, 60.0
_NONE: Key = (-1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How packs are cut; `linger_s` is how long a pack may wait to become full."""

    batch_readings: int = 50
    batch_bytes_max: int = 64 * 1024
    window: int = 4
    linger_s: float = 0.0
    parked_retry_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One publish on the telemetry topic: readings, or notes, of one epoch."""

    readings: tuple[Reading, ...] = ()
    notes: tuple[Note, ...] = ()
    parked: bool = False

    @property
    def payload(self) -> bytes:
        """The bytes to publish."""
        if self.notes:
            return envelope.encode(Notes(notes=self.notes))
        return senml.encode(self.readings)

    @property
    def content_type(self) -> str:
        """The MQTT 5 content type."""
        return envelope.CONTENT_TYPE if self.notes else senml.CONTENT_TYPE

    @property
    def span(self) -> str:
        """The range that it speaks of, for a receiver that cannot decode it: epoch/first/last."""
        if self.notes:
            first = min(note.first for note in self.notes)
            last = max(note.last for note in self.notes)
            return f"{self.notes[0].epoch}/{first}/{last}"
        return f"{self.readings[0].epoch}/{self.readings[0].seq}/{self.readings[-1].seq}"


class Dispatch:
    """Takes parcels from the outbox while there is room in the air; one thread calls it."""

    def __init__(
        self, outbox: Outbox, rules: Rules, *, uniform: Callable[[float, float], float]
    ) -> None:
        self._outbox = outbox
        self._rules = rules
        self._backoff = Backoff(first_s=WAIT_FIRST_S, max_s=WAIT_S_MAX, uniform=uniform)
        self._note_backoff = Backoff(first_s=WAIT_FIRST_S, max_s=WAIT_S_MAX, uniform=uniform)
        self._air: dict[int, tuple[Parcel, float]] = {}
        self._offered: Parcel | None = None  # given out, and not known to be published
        self._window = rules.window
        self._bytes_max = rules.batch_bytes_max
        self._link_bytes_max = senml.PACK_BYTES_MAX
        self._limit = rules.batch_readings
        self._not_before_s = self._notes_not_before_s = 0.0
        self._parked_at_s: float | None = None
        self._parked_behind = _NONE
        self._lingers_since_s: float | None = None
        self.acknowledged_total = 0
        self.refused_total: dict[int, int] = {}
        self.acknowledged_at_s: float | None = None

    def begin(self, *, window: int, bytes_max: int) -> None:
        """Begin a connection whose other end takes no more than this."""
        self._window = max(1, min(self._rules.window, window))
        self._link_bytes_max = bytes_max
        self._bytes_max = max(1, min(self._rules.batch_bytes_max, bytes_max))

    def next(self, now_s: float) -> Parcel | None:
        """Return the next parcel to publish, None for none; `aloft` or `lost` has to follow."""
        if len(self._air) >= self._window:
            return None
        self._offered = self._notes(now_s) or self._fresh(now_s) or self._parked(now_s)
        return self._offered

    def _notes(self, now_s: float) -> Parcel | None:
        if not self._outbox.counts.notes or now_s < self._notes_not_before_s:
            return None
        if any(parcel.notes for parcel, _ in self._air.values()):
            return None
        return Parcel(notes=self._outbox.notes())

    def _fresh(self, now_s: float) -> Parcel | None:
        if now_s < self._not_before_s or self._lingers(now_s):
            return None
        if not self._outbox.counts.unsent:
            return None
        readings = self._outbox.take(self._limit, self._bytes_max)
        if not readings:
            return None
        parcel = self._offered = Parcel(readings=readings)
        if len(readings) == 1 and len(parcel.payload) > self._link_bytes_max:
            self._count_refusal(TOO_LARGE)  # the other end said so in advance
            self._outbox.park(readings)
            return None
        self._lingers_since_s = None
        return parcel

    def _lingers(self, now_s: float) -> bool:
        """Say whether a pack that is not full may still wait for more."""
        if not self._rules.linger_s:
            return False
        aloft = sum(len(one.readings) for one, _ in self._air.values() if not one.parked)
        ready = self._outbox.counts.unsent - aloft
        if not 0 < ready < self._rules.batch_readings:
            self._lingers_since_s = None
            return False
        if self._lingers_since_s is None:
            self._lingers_since_s = now_s
        return now_s - self._lingers_since_s < self._rules.linger_s

    def _parked(self, now_s: float) -> Parcel | None:
        if not self._outbox.counts.parked:
            self._parked_at_s = None
            return None
        if self._parked_at_s is None:
            self._parked_at_s = now_s + self._rules.parked_retry_s
        if now_s < self._parked_at_s:
            return None
        self._parked_at_s = now_s + self._rules.parked_retry_s
        readings = self._outbox.take_parked(behind=self._parked_behind)
        return Parcel(readings=readings, parked=True) if readings else None

    def aloft(self, mid: int, parcel: Parcel, now_s: float) -> None:
        """Note that a parcel was published under this packet id."""
        self._air[mid] = (parcel, now_s)
        self._offered = None

    def answered(self, mid: int, code: int, now_s: float) -> None:
        """Do what a PUBACK asks for; that of something else is none of ours."""
        parcel, _ = self._air.pop(mid, (None, 0.0))
        if parcel is None:
            return
        try:
            if code < REFUSED_FROM:
                self._accepted(parcel, now_s)
            else:
                self._count_refusal(code)
                self._refused(parcel, code, now_s)
        except BaseException:  # a full disk: what was acknowledged is sent again
            self._outbox.untake(parcel.readings)
            raise

    def _count_refusal(self, code: int) -> None:
        self.refused_total[code] = self.refused_total.get(code, 0) + 1

    def _accepted(self, parcel: Parcel, now_s: float) -> None:
        self.acknowledged_at_s = now_s
        if parcel.notes:
            self._outbox.notes_sent(parcel.notes)
            self._note_backoff.reset()
            return
        self._outbox.sent(parcel.readings)
        self.acknowledged_total += len(parcel.readings)
        if parcel.parked:
            self._parked_at_s = now_s  # what was wrong may be mended: try the next one
            return
        self._backoff.reset()
        self._limit = min(self._rules.batch_readings, self._limit * 2)

    def _refused(self, parcel: Parcel, code: int, now_s: float) -> None:
        if parcel.notes:
            self._notes_not_before_s = now_s + self._note_backoff.next_s()
            return
        its_own_fault = code not in {NOT_AUTHORISED, QUOTA_EXCEEDED}
        if parcel.parked or (len(parcel.readings) == 1 and its_own_fault):
            (reading,) = parcel.readings
            self._parked_behind = (reading.epoch, reading.seq) if parcel.parked else _NONE
            self._outbox.park(parcel.readings)
            self._parked_at_s = now_s + self._rules.parked_retry_s
            return
        self._outbox.untake(parcel.readings)
        self._limit = max(1, len(parcel.readings) // 2)
        self._not_before_s = now_s + self._backoff.next_s()

    def lost(self) -> None:
        """Take everything out of the air: the connection has gone, and answers with it."""
        for parcel, _ in self._air.values():
            self._outbox.untake(parcel.readings)
        self._air.clear()
        if self._offered is not None:  # the connection went while it was being published
            self._outbox.untake(self._offered.readings)
            self._offered = None

    def hurry(self, now_s: float) -> None:
        """Send now whatever is there: no wait, no linger, parked readings too."""
        self._not_before_s = self._notes_not_before_s = now_s
        self._parked_at_s = now_s
        self._lingers_since_s = now_s - self._rules.linger_s

    @property
    def in_the_air(self) -> int:
        """How many parcels wait for their answer."""
        return len(self._air)

    def waits_s(self, now_s: float) -> float:
        """Say how long the oldest parcel has been without an answer."""
        return max((now_s - sent_s for _, sent_s in self._air.values()), default=0.0)

    @property
    def idle(self) -> bool:
        """Say whether nothing is in the air and nothing unsent is left."""
        counts = self._outbox.counts
        return not self._air and not counts.unsent and not counts.notes
