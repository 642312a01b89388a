"""The state of one session: what is queued, in flight and awaited. Pure: bytes out, no sockets.

Every message of QoS 1 or 2 that a session has to get is given the next *ordinal* when its group is
committed; the packet id follows from the ordinal, so after a crash a message is sent again under
the id that it had [MQTT-4.4.0-1], though no id was ever stored. What is stored is `cursor()`.
"""

from collections import deque
from collections.abc import Iterable

from plantroom.broker.backlog import Backlog, Stored
from plantroom.broker.codes import Code, PacketType
from plantroom.broker.deliveries import GONE, IDS, UNOPENED, Delivery, cost, packet_id, unfinished
from plantroom.broker.encode import acknowledgement
from plantroom.broker.outgoing import Outgoing
from plantroom.broker.runs import Origin, Run
from plantroom.broker.sink import Cursor
from plantroom.broker.tree import Grant

_REFILL_BYTES = 131_072  # a queue in memory that is shorter asks for more
# Of all packet ids, without an object for each on the way.
_PUBACKS = b"".join(
    bytes(byte for low in range(256) for byte in (0x40, 2, high, low)) for high in range(256)
)


class Session:
    """One client's session, for as long as MQTT keeps it."""

    __slots__ = (
        "_acknowledged",
        "_second_halves",
        "_settled",
        "attachment",
        "backlog",
        "behind_bytes",
        "dropped",
        "durable",
        "flight_bytes",
        "in_flight",
        "incoming",
        "limit_bytes",
        "next_ordinal",
        "origin",
        "outgoing",
        "pending",
        "pending_bytes",
        "ready",
        "sent",
        "sid",
        "unacknowledged",
        "urgent",
        "window",
    )

    def __init__(self, origin: Origin, *, durable: bool, limit_bytes: int) -> None:
        self.sid = origin.sid
        self.origin = origin
        self.durable = durable
        self.limit_bytes = limit_bytes
        self.ready = False  # connected, and CONNACK sent
        self.attachment = 0  # counts connections
        self.outgoing = Outgoing()
        self.window = 0
        self.next_ordinal = 0
        self.sent = 0  # what is behind it was sent by no connection, as far as the disk knows
        self.backlog = Backlog()
        self.behind_bytes = 0  # what was logged while it was away or behind, and not loaded since
        self.pending: deque[Delivery] = UNOPENED
        self.pending_bytes = 0
        self.in_flight: deque[Delivery] = UNOPENED
        self.unacknowledged = 0
        self.flight_bytes = 0
        self.incoming: set[int] = set()
        self.urgent: list[tuple[Run, Grant]] = []  # QoS 0: now or never
        self.dropped = 0
        self._acknowledged: set[int] = set()  # ordinals behind the head, done out of turn
        self._second_halves: dict[int, Delivery] = {}  # QoS 2 in flight, by packet id
        self._settled = 0  # below it everything was offered

    # -- in

    @property
    def keeping_up(self) -> bool:
        """Whether it is connected, and nothing of its queue is in the log only."""
        return self.ready and not self.backlog.behind

    @property
    def hungry(self) -> bool:
        """Whether there is room for what is behind."""
        room_bytes = min(_REFILL_BYTES, self.limit_bytes // 2)
        room = not self.pending or self.pending_bytes < room_bytes
        return room and self.ready and self.backlog.behind

    # [MQTT-4.5.0-1], [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]
    def reserve(self, count: int) -> int:
        """Take the next ordinals for a run that is about to be committed."""
        ordinal = self.next_ordinal
        self.next_ordinal += count
        if self.ready and not self.backlog.behind:
            self.sent = self.next_ordinal  # may be on its way before this is stored again
        return ordinal

    def offer(self, run: Run, grant: Grant, qos: int, ordinal: int) -> None:
        """Queue a committed run; QoS 0 only if connected."""
        if qos == 0:
            if self.ready:
                self.urgent.append((run, grant))
            return
        end = self._settled = ordinal + run.count
        backlog, size = self.backlog, cost(run, run.count)
        behind = backlog.loaded < backlog.stored
        fits = not self.pending_bytes or self.pending_bytes + size <= self.limit_bytes
        if self.durable and not run.volatile:
            backlog.stored = end
            if behind or not (self.ready and fits):
                return  # the log has it
            backlog.loaded = end
        elif not self.ready:
            return
        elif not fits:
            self.dropped += run.count
            return
        self.pending_bytes += size
        delivery = Delivery(run, grant, qos, ordinal, 0, run.count, 0, dup=False)
        if behind:
            backlog.put_aside(delivery)
        else:
            self._queue(delivery)

    def _queue(self, delivery: Delivery) -> None:
        """Put it behind what is pending."""
        if self.pending is UNOPENED:
            self.pending, self.in_flight = deque(), deque()
        self.pending.append(delivery)

    def restore(self, cursor: Cursor, stored: int, released: set[int], finished: set[int]) -> None:
        """Start where the disk says; what is not done is behind."""
        self.next_ordinal = self._settled = max(cursor.next, stored)
        self.sent = cursor.sent
        self.backlog.restore(cursor, stored, released, finished)

    def announce(self, end: int) -> None:
        """Note that messages below `end` are about to be loaded, and so perhaps sent."""
        self.sent = max(self.sent, end)

    def load(self, runs: Iterable[Stored], end: int, size_bytes: int, skip: frozenset[int]) -> None:
        """Queue what was read back, so many bytes, of all that is stored below `end`."""
        for part in self.backlog.load(runs, end, skip):
            self._queue(part)
            if not part.run.volatile:  # the others are counted while they wait aside
                self.pending_bytes += cost(part.run, part.count)
        self.behind_bytes = max(0, self.behind_bytes - size_bytes) if self.backlog.behind else 0

    # -- out

    # [MQTT-3.3.4-10], [MQTT-4.9.0-3]
    def attach(self, outgoing: Outgoing, window: int) -> None:
        """Send from now on; what was in flight comes first."""
        self.outgoing = outgoing
        self.window = window
        self.ready = True
        self.attachment += 1
        if not self.backlog.behind:
            self.sent = self.next_ordinal

    def remaining(self) -> list[Delivery]:
        """Return what of its queue is in memory, in turn; what was sent has DUP."""
        flights = [part for f in self.in_flight for part in unfinished(f, self._acknowledged)]
        return [*flights, *self.pending, *self.backlog.aside]

    def detach(self) -> None:
        """Leave the queue to the log: the connection is gone; only volatile messages stay here."""
        volatile = [part for part in self.remaining() if part.run.volatile]
        self.backlog.leave(self.cursor().done, self._acknowledged, volatile)
        self.pending_bytes = sum(cost(part.run, part.count) for part in volatile)
        self.ready = False
        self.unacknowledged = self.flight_bytes = 0
        self.urgent.clear()
        self.pending.clear()
        self.in_flight.clear()
        self._second_halves.clear()
        self._acknowledged.clear()
        if not self.backlog.behind:
            for part in self.backlog.load((), self.backlog.stored):
                self._queue(part)

    def pump(self, now_us: int) -> list[bytes]:
        """Return the bytes that may be sent now: within the receiver's window, in order."""
        out: list[bytes] = []
        if self.urgent:
            for run, grant in self.urgent:
                out += self.outgoing.urgent(run, grant, now_us)
            self.urgent.clear()
        pending = self.pending
        while pending and self.flight_bytes < self.limit_bytes:
            head = pending[0]
            lowest = self.in_flight[0].ordinal if self.in_flight else head.ordinal
            count = min(
                head.count,
                # [MQTT-4.9.0-1], [MQTT-4.9.0-2]
                self.window - self.unacknowledged,  # [MQTT-3.3.4-9]
                IDS - (head.ordinal - lowest),
                IDS - head.ordinal % IDS,
            )
            if count <= 0:
                break
            run = head.run
            if (
                run.copyable
                and head.qos == 1
                and run.version == self.outgoing.version
                and self.outgoing.plain
                and not (head.dup or head.grant.identifiers)
                and not run.retained
            ):
                self._send_copy(head, count, out)
            else:
                self._send_one(head, out, now_us)
        return out

    def _send_copy(self, head: Delivery, count: int, out: list[bytes]) -> None:
        """Copy the packets as they came and stamp packet ids: the fast way."""
        run = head.run
        data = run.data
        start = head.position if head.position >= 0 else run.skip(0, head.first)
        whole = count == run.count
        end = len(data) if head.first + count == run.count else run.skip(start, count)
        frame = bytearray(data if whole else data[start:end])
        number = packet_id(head.ordinal)
        for offset in run.offsets if whole else run.offsets[head.first : head.first + count]:
            at = offset - start
            frame[at] = number >> 8
            frame[at + 1] = number & 255
            number += 1
        out.append(bytes(frame))
        self._take(head, count, end)

    def _send_one(self, head: Delivery, out: list[bytes], now_us: int) -> None:
        """Encode one message for this receiver, or drop it if it may not be sent: the plain way."""
        run = head.run
        number = packet_id(head.ordinal)
        if head.released:  # [MQTT-4.3.3-5], [MQTT-4.3.3-6]
            out.append(
                acknowledgement(PacketType.PUBREL, number, self.outgoing.version)
            )  # [MQTT-4.3.3-4]
            self._take(head, 1, -1)
            return
        frame = self.outgoing.frame(
            run,
            run.messages()[head.first],
            head.grant,
            now_us=now_us,
            qos=head.qos,
            packet_id=number,
            dup=head.dup,
        )
        if frame:
            out.append(frame)
            self._take(head, 1, -1)
        else:  # [MQTT-3.1.2-25]: too large for this client is as if it had been delivered
            self._shorten(head, 1)

    def _take(self, head: Delivery, count: int, position: int) -> None:
        """Move messages from the queue into flight."""
        if count == head.count:
            flight = self.pending.popleft()
        else:
            flight = head.part(0, count, dup=head.dup)
            head.ordinal += count
            head.first += count
            head.count -= count
            head.position = position
        size = cost(flight.run, count)
        self.pending_bytes -= size
        self.flight_bytes += size
        self.backlog.flown = max(self.backlog.flown, flight.ordinal + count)
        self.in_flight.append(flight)
        self.unacknowledged += count
        if flight.qos == 2:
            self._second_halves[packet_id(flight.ordinal)] = flight

    def _shorten(self, head: Delivery, count: int) -> None:
        """Drop messages from the head of the queue."""
        self.pending_bytes -= cost(head.run, count)
        head.ordinal += count
        head.first += count
        head.count -= count
        head.position = -1
        if head.count == 0:
            self.pending.popleft()

    # -- acknowledgements

    def acknowledge_run(self, data: bytes, position: int) -> int:
        """Take consecutive PUBACKs in the order of sending; return the position behind them."""
        flights = self.in_flight
        end = len(data)
        while flights:
            head = flights[0]
            count = min(head.count, (end - position) >> 2)
            first = packet_id(head.ordinal)
            if (
                head.qos != 1
                or count == 0
                or self._acknowledged
                or not data.startswith(_PUBACKS[4 * first : 4 * (first + count)], position)
            ):
                break
            position += 4 * count
            self.unacknowledged -= count
            self.flight_bytes -= cost(head.run, count)
            self._finish(head, count)
        return position

    # [MQTT-2.2.1-5], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.4.0-2], [MQTT-4.8.2-6]
    def acknowledge(self, number: int) -> bool:
        """PUBACK; False if nothing awaits it."""
        flight, ordinal = self._find(number)
        if flight is None or flight.qos != 1:
            return False
        self._done(flight, ordinal)
        return True

    def receive(self, number: int, code: int) -> int | None:
        """PUBREC: return the ordinal whose PUBREL is due, None if there is none."""
        flight = self._second_halves.get(number)
        if flight is None:
            return None
        # [MQTT-4.4.0-2], [MQTT-4.8.2-6]
        if code >= Code.UNSPECIFIED_ERROR:  # [MQTT-4.3.3-4]: refused, and so done with
            del self._second_halves[number]
            self._done(flight, flight.ordinal)
            return None
        flight.released = True
        self.backlog.released.add(flight.ordinal)
        return flight.ordinal

    def awaits(self, number: int) -> bool:
        """Say whether a QoS 2 delivery with this packet id is in flight."""
        return number in self._second_halves

    def complete(self, number: int) -> int | None:
        """PUBCOMP: return the ordinal that is done, None if nothing awaits it."""
        flight = self._second_halves.get(number)
        if flight is None or not flight.released:
            return None
        del self._second_halves[number]
        ordinal = flight.ordinal
        self.backlog.released.discard(ordinal)
        self._done(flight, ordinal)
        return ordinal

    def _find(self, number: int) -> tuple[Delivery | None, int]:
        for flight in self.in_flight:
            ordinal = flight.ordinal + (number - packet_id(flight.ordinal)) % IDS
            if ordinal < flight.ordinal + flight.count:
                return (None, 0) if ordinal in self._acknowledged else (flight, ordinal)
        return None, 0

    def _done(self, flight: Delivery, ordinal: int) -> None:
        self.unacknowledged -= 1
        self.flight_bytes -= cost(flight.run, 1)
        if flight.count == 1:
            flight.run = GONE  # it may have to wait here for those before it
        self._acknowledged.add(ordinal)
        flights = self.in_flight
        while flights and flights[0].ordinal in self._acknowledged:
            self._acknowledged.discard(flights[0].ordinal)
            self._finish(flights[0], 1)

    def _finish(self, head: Delivery, count: int) -> None:
        head.ordinal += count
        head.first += count
        head.count -= count
        head.position = -1
        if head.count == 0:
            self.in_flight.popleft()

    def discard(self) -> None:
        """Forget everything: the session has ended."""
        self.in_flight.clear()
        self.pending.clear()
        self.pending_bytes = self.flight_bytes = 0
        self.backlog.clear()
        self.durable = False
        self.ready = False

    def cursor(self) -> Cursor:
        """Return how far this session is."""
        if self.in_flight:
            done = self.in_flight[0].ordinal
        elif self.pending:
            done = self.pending[0].ordinal
        elif self.backlog.behind:
            done = self.backlog.loaded
        else:
            done = self._settled
        return Cursor(self.sid, done, self.sent, self.next_ordinal)
