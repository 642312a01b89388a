"""The state of one session: what is queued, in flight and awaited. Pure: bytes out, no sockets.

Every message of QoS 1 or 2 that a session has to get is given the next *ordinal* when its group is
committed; the packet id follows from the ordinal, so after a crash a message is sent again under
the id that it had [MQTT-4.4.0-1], though no id was ever stored. What is stored is `cursor()`.
"""

from collections import deque

from plantroom.broker.codes import Code, PacketType
from plantroom.broker.deliveries import IDS, Delivery, packet_id
from plantroom.broker.encode import acknowledgement
from plantroom.broker.packets import V311
from plantroom.broker.runs import Origin, Run, expired, outgoing
from plantroom.broker.sink import Cursor
from plantroom.broker.tree import Grant

_PUBACKS = b"".join(b"@\2" + number.to_bytes(2, "big") for number in range(IDS + 1))


class Session:
    """One client's session, for as long as MQTT keeps it."""

    __slots__ = (
        "_acknowledged",
        "_second_halves",
        "_settled",
        "dropped",
        "durable",
        "in_flight",
        "incoming",
        "limit_bytes",
        "next_ordinal",
        "origin",
        "packet_bytes_max",
        "pending",
        "pending_bytes",
        "ready",
        "sent",
        "sid",
        "unacknowledged",
        "urgent",
        "version",
        "window",
    )

    def __init__(self, origin: Origin, *, durable: bool, limit_bytes: int) -> None:
        self.sid = origin.sid
        self.origin = origin
        self.durable = durable
        self.limit_bytes = limit_bytes
        self.ready = False  # connected, and CONNACK sent
        self.version = V311
        self.window = 0
        self.packet_bytes_max = 0
        self.next_ordinal = 0
        self.sent = 0
        self.pending: deque[Delivery] = deque()
        self.pending_bytes = 0
        self.in_flight: deque[Delivery] = deque()
        self.unacknowledged = 0
        self.incoming: set[int] = set()
        self.urgent: list[tuple[Run, Grant]] = []  # QoS 0: now or never
        self.dropped = 0
        self._acknowledged: set[int] = set()  # ordinals behind the head, done out of turn
        self._second_halves: dict[int, Delivery] = {}  # QoS 2 in flight, by packet id
        self._settled = 0  # below it everything was offered

    # -- in

    def reserve(self, count: int) -> int:
        """Take the next ordinals for a run that is about to be committed."""
        ordinal = self.next_ordinal
        self.next_ordinal += count
        if self.ready:
            self.sent = self.next_ordinal  # may be on its way before this is stored again
        return ordinal

    def offer(self, run: Run, grant: Grant, qos: int, ordinal: int) -> None:
        """Queue a committed run; QoS 0 only if connected."""
        if qos == 0:
            if self.ready:
                self.urgent.append((run, grant))
            return
        self._settled = ordinal + run.count
        if not self.ready and (run.volatile or not self.durable):
            return
        size = len(run.data)
        if self.pending_bytes + size > self.limit_bytes:
            self.dropped += run.count
            return
        self.pending_bytes += size
        self.pending.append(Delivery(run, grant, qos, ordinal, 0, run.count, 0, dup=False))
        if run.segment is not None and self.durable:
            run.segment.references += 1

    def restore(self, cursor: Cursor) -> None:
        """Start where the stored cursor says."""
        self.next_ordinal = cursor.next
        self.sent = cursor.sent
        self._settled = cursor.done

    def restore_run(  # noqa: PLR0913 -- what was stored of it
        self, run: Run, grant: Grant, qos: int, ordinal: int, *, cursor: Cursor, released: set[int]
    ) -> None:
        """Queue again what of a stored run is not acknowledged."""
        end = ordinal + run.count
        self.next_ordinal = max(self.next_ordinal, end)
        self._settled = max(self._settled, end)
        skip = max(cursor.done - ordinal, 0)
        if skip >= run.count:
            return
        whole = Delivery(run, grant, qos, ordinal, 0, run.count, 0, dup=False)
        if qos == 1 and (ordinal + skip >= cursor.sent or end <= cursor.sent):
            parts = [whole.part(skip, run.count - skip, dup=ordinal + skip < cursor.sent)]
        else:
            parts = [
                whole.part(number, 1, dup=ordinal + number < cursor.sent)
                for number in range(skip, run.count)
            ]
        for part in parts:
            part.released = part.ordinal in released
            self._queue(part)

    def restore_released(self, ordinal: int, run: Run) -> None:
        """Queue again a PUBREL whose message is no longer needed."""
        part = Delivery(run, Grant(qos=2), 2, ordinal, 0, 1, 0, dup=True, released=True)
        self.next_ordinal = max(self.next_ordinal, ordinal + 1)
        self._settled = max(self._settled, ordinal + 1)
        self._queue(part)

    def _queue(self, part: Delivery) -> None:
        self.pending.append(part)
        self.pending_bytes += len(part.run.data) * part.count // part.run.count
        if part.run.segment is not None:
            part.run.segment.references += 1

    # -- out

    def attach(self, *, version: int, window: int, packet_bytes_max: int) -> None:
        """Send from now on; what was in flight comes first."""
        self.version = version
        self.window = window
        self.packet_bytes_max = packet_bytes_max
        self.ready = True
        self.sent = self.next_ordinal

    def detach(self) -> None:
        """Put what is unacknowledged back at the head of the queue: the connection is gone."""
        self.ready = False
        self.urgent.clear()
        for flight in reversed(self.in_flight):
            for part in reversed(self._unfinished(flight)):
                self.pending.appendleft(part)
                self.pending_bytes += len(part.run.data) * part.count // part.run.count
                if part.run.segment is not None and self.durable:
                    part.run.segment.references += 1
            self._release(flight)
        self.in_flight.clear()
        self._second_halves.clear()
        self._acknowledged.clear()
        self.unacknowledged = 0

    def _unfinished(self, flight: Delivery) -> list[Delivery]:
        """Return what of a delivery is not acknowledged, to be sent with DUP [MQTT-3.3.1-1]."""
        if not self._acknowledged:
            return [flight.part(0, flight.count, dup=True)]
        return [
            flight.part(number, 1, dup=True)
            for number in range(flight.count)
            if flight.ordinal + number not in self._acknowledged
        ]

    def pump(self, now_us: int) -> list[bytes]:
        """Return the bytes that may be sent now: within the receiver's window, in order."""
        out: list[bytes] = []
        if self.urgent:
            self._pump_urgent(out, now_us)
        pending = self.pending
        while pending:
            head = pending[0]
            lowest = self.in_flight[0].ordinal if self.in_flight else head.ordinal
            count = min(
                head.count,
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
                and run.version == self.version
                and not (head.dup or head.grant.identifiers or self.packet_bytes_max)
                and not run.retained
            ):
                self._send_copy(head, count, out)
            else:
                self._send_one(head, out, now_us)
        return out

    def _pump_urgent(self, out: list[bytes], now_us: int) -> None:
        for run, grant in self.urgent:
            age_us = now_us - run.at_us
            for message in run.messages():
                if not expired(message, age_us):
                    frame = outgoing(
                        message,
                        version=self.version,
                        grant=grant,
                        qos=0,
                        packet_id=0,
                        dup=False,
                        retained=run.retained,
                        age_us=age_us,
                    )
                    if not self.packet_bytes_max or len(frame) <= self.packet_bytes_max:
                        out.append(frame)
        self.urgent.clear()

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
        if head.released:
            out.append(acknowledgement(PacketType.PUBREL, number, self.version))  # [MQTT-4.3.3-4]
            self._take(head, 1, -1)
            return
        message = run.messages()[head.first]
        age_us = now_us - run.at_us
        frame = b""
        if head.dup or not expired(message, age_us):
            frame = outgoing(
                message,
                version=self.version,
                grant=head.grant,
                qos=head.qos,
                packet_id=number,
                dup=head.dup,
                retained=run.retained,
                age_us=age_us,
            )
        if frame and (not self.packet_bytes_max or len(frame) <= self.packet_bytes_max):
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
            if flight.run.segment is not None and self.durable:
                flight.run.segment.references += 1
        self.pending_bytes -= len(flight.run.data) * count // flight.run.count
        self.in_flight.append(flight)
        self.unacknowledged += count
        if flight.qos == 2:
            self._second_halves[packet_id(flight.ordinal)] = flight

    def _shorten(self, head: Delivery, count: int) -> None:
        """Drop messages from the head of the queue."""
        self.pending_bytes -= len(head.run.data) * count // head.run.count
        head.ordinal += count
        head.first += count
        head.count -= count
        head.position = -1
        if head.count == 0:
            self.pending.popleft()
            self._release(head)

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
            self._finish(head, count)
        return position

    def acknowledge(self, number: int) -> bool:
        """PUBACK; False if nothing awaits it."""
        flight, ordinal = self._find(number)
        if flight is None or flight.qos != 1:
            return False
        self._done(ordinal)
        return True

    def receive(self, number: int, code: int) -> int | None:
        """PUBREC: return the ordinal whose PUBREL is due, None if there is none."""
        flight = self._second_halves.get(number)
        if flight is None:
            return None
        if code >= Code.UNSPECIFIED_ERROR:  # [MQTT-4.3.3-4]: refused, and so done with
            del self._second_halves[number]
            self._done(flight.ordinal)
            return None
        flight.released = True
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
        self._done(ordinal)
        return ordinal

    def _find(self, number: int) -> tuple[Delivery | None, int]:
        for flight in self.in_flight:
            ordinal = flight.ordinal + (number - packet_id(flight.ordinal)) % IDS
            if ordinal < flight.ordinal + flight.count:
                return (None, 0) if ordinal in self._acknowledged else (flight, ordinal)
        return None, 0

    def _done(self, ordinal: int) -> None:
        self.unacknowledged -= 1
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
            self._release(head)

    def _release(self, delivery: Delivery) -> None:
        if delivery.run.segment is not None and self.durable:
            delivery.run.segment.references -= 1

    def discard(self) -> None:
        """Forget everything: the session has ended."""
        for delivery in (*self.in_flight, *self.pending):
            self._release(delivery)
        self.in_flight.clear()
        self.pending.clear()
        self.pending_bytes = 0
        self.durable = False
        self.ready = False

    def cursor(self) -> Cursor:
        """Return how far this session is."""
        if self.in_flight:
            done = self.in_flight[0].ordinal
        elif self.pending:
            done = self.pending[0].ordinal
        else:
            done = self._settled
        return Cursor(self.sid, done, self.sent, self.next_ordinal)
