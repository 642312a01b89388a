"""One connection: bytes in, packets to their handlers, bytes out.

Runs of ordinary publishes (QoS 1, no DUP, no RETAIN, a topic that has been decided) and of PUBACKs
are recognised here without making an object for each; everything else takes the plain path through
`decode` and `packet_handler`. A connection can be *stopped*: what it sends is kept, within a bound,
until it may go on.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from plantroom.broker import decode, encode
from plantroom.broker.codes import Code, PacketType
from plantroom.broker.doorway import Place
from plantroom.broker.engine import Engine
from plantroom.broker.errors import PacketError, ProtocolError
from plantroom.broker.fast_path import FastPath
from plantroom.broker.guard import Ask, Peer, UndecidedError
from plantroom.broker.one_buffer import GONE, OneBuffer
from plantroom.broker.packets import V5, V311
from plantroom.broker.parts import Parts
from plantroom.broker.runs import US_PER_S
from plantroom.broker.turns import DISK, ROOM
from plantroom.broker.unread import Unread
from plantroom.wire.errors import IdentityError
from plantroom.wire.identity import Principal

if TYPE_CHECKING:
    from plantroom.broker.clients import Client
    from plantroom.broker.outlets import Handler

_PACKETS_AT_ONCE = 500  # on the plain path; then it is the others' turn
_REASON_BYTES = 16  # what a packet has beside its reason string, at most
Admission = Callable[[Any], Principal | None]


class Connection(OneBuffer):
    """The protocol of one accepted socket; `peer` is known before it is made."""

    # A dict for each of ten thousand connections would be the largest part of them.
    # fmt: off
    __slots__ = (
        "_admit", "_framed", "_partial_us", "_parts", "_stopped", "_transport",
        "_unread", "_waits", "_yielding", "accepted", "aliases", "blocked", "client", "close_at_us",
        "engine", "fast", "greeted", "handler", "heard_us", "keepalive_us", "open", "opened_us",
        "packet_bytes_max", "peer", "place", "problem_information", "turn", "unanswered", "version",
        "waiting_for",
    )
    # fmt: on

    def __init__(
        self,
        engine: Engine,
        handler: "Handler[Connection]",
        admit: Admission,
        address: str,
        place: Place | None = None,
    ) -> None:
        self.engine = engine
        self.place = place  # in the doorway, until CONNECT is accepted
        self.handler = handler
        self.peer = Peer(None, address)
        self._admit = admit
        self.client: Client | None = None
        self.version = V311
        self.problem_information = True
        self.packet_bytes_max = 0  # of the client; 0: any size
        self.keepalive_us = 0
        self.blocked = self.open = False
        self.accepted = False  # CONNACK with success was sent or is on its way
        self.greeted = False  # it was sent
        self.unanswered = 0
        self.aliases: dict[int, str] = {}  # [MQTT-3.3.2-7]
        self.close_at_us: int | None = None
        self.heard_us = self.opened_us = engine.now_us
        self.fast = FastPath(self)
        self.waiting_for: tuple[Ask, ...] = ()
        self._transport: Any = None
        self._parts = Parts()
        self._partial_us = 0  # since when an incomplete packet is waited for
        self._framed = 0  # bytes of a WebSocket frame that is not complete
        self._stopped = self._yielding = False
        self._waits = self.turn = 0  # for what: DISK, ROOM; when it brought something last
        self._unread = Unread(engine.limits)

    # -- the transport's calls

    def connection_made(self, transport: Any) -> None:
        """TLS is done: see who it is, before a byte of MQTT is looked at."""
        self._transport = transport
        self.open = True
        self.engine.connections.add(self)
        self.engine.counters.connections += 1
        try:
            self.peer.principal = self._admit(transport.get_extra_info("ssl_object"))
        except IdentityError as error:
            self.engine.counters.refused += 1
            self.abort(f"{error.reason}: {error}", event="refused")
        # Whom the certificate names is known; its parsed copy would stay as long as the connection.
        (transport.get_extra_info("peercert") or {}).clear()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- all ends are alike
        """Leave the session to its rules."""
        self.open = False
        self.engine.connections.discard(self)
        self.through()
        self._parts.drop(self, self.engine.room)
        if self.client is not None:
            self.handler.connection_ended(self)
        self.fast.leave()
        self._transport = GONE

    def through(self) -> None:
        """Leave the doorway."""
        if self.place is not None:
            self.place.leave()
            self.place = None

    def pause_writing(self) -> None:
        """Stop sending: the client does not read."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Send on: the client reads again."""
        self.blocked = False
        if self.client is not None and self.client.connection is self:
            self.engine.flush(self.client)

    def data_received(self, data: bytes) -> None:
        """Take bytes; keep what is not a whole packet."""
        engine = self.engine
        self.heard_us = engine.clock.monotonic_us()
        engine.counters.bytes_received += len(data)
        engine.turns = self.turn = engine.turns + 1
        if not self.open:
            return
        parts = self._parts
        if parts.have or self._stopped:
            parts.add(data)
            if self._stopped and parts.have > engine.limits.commit_depth_bytes_max:
                self.abort("sends on while it is held")
            if self._stopped or parts.have < parts.need:
                return
            data = parts.take()
        self._feed(data)

    def incomplete(self, size_bytes: int) -> None:
        """Note how much of a WebSocket frame has come that is not complete."""
        self._framed = size_bytes
        if size_bytes and not self._partial_us:
            self._partial_us = self.engine.now_us
        elif not size_bytes and not self._parts.have:
            self._partial_us = 0

    def _feed(self, data: bytes) -> None:
        try:
            position = self._consume(data)
        except PacketError as error:
            self.engine.counters.count(error)
            self.fail(error.code, str(error))
            return
        if not self.open:
            return
        if position < len(data):
            self._parts.put_back(data[position:] if position else data)
            if position or not self._partial_us:
                self._partial_us = self.engine.now_us
        else:
            self._partial_us = 0
        if self._stopped:
            return
        if not self._parts.fit(self, self.engine.room):
            self.wait(ROOM)
        if self.engine.journal.deep and self.wait():
            self.engine.journal.pause(self)
            self.engine.stop_reading()

    def _consume(self, data: bytes) -> int:
        """Handle whole packets; return where the first that is not handled starts."""
        position, end = 0, len(data)
        limits = self.engine.limits
        turns = _PACKETS_AT_ONCE
        while position < end:
            if self.accepted:
                position = self.fast.take(data, position)
                if position >= end:
                    break
            found = decode.frame(
                data,
                position,
                packet_bytes_max=(
                    limits.packet_bytes_max if self.accepted else self._first_bytes(data, position)
                ),
                version=self.version,
            )
            if isinstance(found, int):
                self._parts.need = found
                break
            try:
                self._handle(found, data, position)
            except UndecidedError as error:
                self.stop()
                self._parts.need = 0
                self.waiting_for = error.asks
                self.handler.suspend(self)
                break
            self.peer.fresh.clear()
            position = found[2]
            if not self.open:
                return end
            if self._stopped:
                break
            turns -= 1
            if not turns and position < end:
                self._let_others()
                break
        return position

    def _first_bytes(self, data: bytes, position: int) -> int:
        """Refuse at its first byte a first packet that is no CONNECT; return the size limit."""
        if data[position] != PacketType.CONNECT << 4:  # [MQTT-3.1.0-1]
            raise ProtocolError(f"first packet is no CONNECT (first byte {data[position]:#04x})")
        return self.engine.limits.connect_bytes_max

    def _handle(self, frame: decode.Frame, data: bytes, position: int) -> None:
        header, start, end = frame
        if not self.accepted:
            self.handler.connect(self, data, start, end)
            return
        packet = decode.packet(header, data, start, end, self.version)
        raw = data[position:end] if data[start - 1] else b""  # a padded length is not passed on
        self.handler.packet(self, packet, raw)

    # -- stopping and going on

    def stop(self) -> None:
        """Read no further until `go_on`."""
        self._stopped = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read on: what was waited for is there."""
        if not self.open or self.close_at_us is not None:
            return
        self._stopped, self.heard_us = False, self.engine.clock.monotonic_us()
        self._transport.resume_reading()
        if data := self._parts.take():
            self._feed(data)

    def _let_others(self) -> None:
        """Go on in a while with what is here already."""
        self.stop()
        self._yielding = True
        if self.engine.journal.deep:
            self.engine.journal.pause(self)
        else:
            asyncio.get_running_loop().call_soon(self.resume)

    def wait(self, why: int = DISK) -> bool:
        """Read no further until there is room, on the disk or in memory; say whether that is new.

        None of it counts as the client's silence.
        """
        if not self.open or self._stopped or self._waits & why:
            return False
        self._waits |= why
        self._transport.pause_reading()
        self._partial_us = 0
        return True

    def resume(self, why: int = DISK) -> None:
        """Read on: there is room, or others have had their turn."""
        self._waits &= ~why
        if self._yielding:
            self._yielding = False
            self.go_on()
        elif self.open and not self._stopped and not self._waits:
            self._transport.resume_reading()
            self.heard_us = self.engine.clock.monotonic_us()
            self._partial_us = self.engine.now_us if self._parts.have else 0

    def hold(self) -> None:
        """Nothing can be stored, and MQTT 3.1.1 cannot say so: no PUBACK, and closed in a while."""
        if self.close_at_us is None and self.open:
            hold_us = int(self.engine.limits.hold_s * US_PER_S)
            self.close_at_us = self.engine.clock.monotonic_us() + hold_us
            self.engine.audit.record("held", self.peer, reason="storage")
            self.stop()

    # -- out

    def write(self, data: bytes) -> None:
        """Send bytes, if still connected."""
        if self.open and not self._transport.is_closing():
            self.engine.counters.bytes_sent += len(data)
            self._transport.write(data)
            if self.blocked and self._unread.too_much(self.unread_bytes):
                self.too_slow("it does not read", "outbound_bytes_max")

    def write_burst(self, data: bytes) -> None:
        """Send what was queued: the client may take its time to read that much."""
        self._unread.burst_bytes = len(data)
        self.write(data)

    def too_slow(self, why: str, limit: str) -> None:
        """Cut off a client that does not take what it gets."""
        if self.open:
            self.engine.counters.slow_consumers += 1
            self.engine.counters.hit(limit)
            self.blocked = False  # what is written now is its last
            self.fail(Code.QUOTA_EXCEEDED, f"slow consumer: {why}")

    @property
    def partial_bytes(self) -> int:
        """How much is kept of a packet that has not come whole."""
        return self._parts.have + self._framed

    @property
    def unread_bytes(self) -> int:
        """How much the client has not read."""
        return int(self._transport.get_write_buffer_size()) if self.open else 0

    def acknowledged(self, count: int) -> None:
        """So many publishes are answered."""
        self.unanswered -= count

    def refused(self, acknowledgements: bytes) -> None:
        """Say that a commit failed where the protocol can, else hold the client."""
        if not self.open:
            return
        if self.version != V5:
            self.hold()
        elif acknowledgements[0] >> 4 not in {PacketType.PUBACK, PacketType.PUBREC}:
            self.fail(Code.QUOTA_EXCEEDED, "storage failed")
        else:
            self.write(encode.refusals(acknowledgements, Code.QUOTA_EXCEEDED))

    def fail(self, code: int, reason: str) -> None:
        """Close with a reason: in the audit always, to the client where MQTT 5 has a packet."""
        if not self.open:
            return
        self.engine.audit.record(
            "disconnected" if self.accepted else "refused", self.peer, reason=reason
        )
        if self.version == V5 and self.greeted:  # [MQTT-3.14.0-1]
            self.write(encode.disconnect(code, self.told(reason)))  # [MQTT-4.13.1-1]
        self.close()

    def told(self, reason: str, *, beside_bytes: int = 0) -> str:
        """Return a reason string, empty if the client does not want it or cannot take it."""
        # [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.9.2-1], [MQTT-3.14.2-3]
        size = len(reason.encode()) + beside_bytes + _REASON_BYTES  # [MQTT-3.1.2-24]
        fits = not self.packet_bytes_max or size <= self.packet_bytes_max
        return reason if self.problem_information and fits else ""  # [MQTT-3.1.2-29]

    def close(self) -> None:
        """Send what is written, then close; nothing that still comes in is looked at."""
        if self.open:
            self.open = False  # [MQTT-3.14.4-1], [MQTT-3.14.4-2]
            self._parts.drop(self, self.engine.room)
            self._leave()
            self.close_at_us = self.engine.now_us + 5 * US_PER_S  # so long it may read up to here
            if self.client is not None:
                self.handler.connection_ended(self)

    def _leave(self) -> None:
        """Close, but read on for a while: unread bytes would reset what was written last."""
        if self._transport.can_write_eof():
            with suppress(OSError):  # it is gone already
                self._transport.write_eof()
                self._transport.resume_reading()
                return
        self._transport.close()

    def abort(self, reason: str, *, event: str = "aborted") -> None:
        """Close at once, dropping what is not sent."""
        if self.open:
            self.engine.audit.record(event, self.peer, reason=reason)
        self.open = False
        self._transport.abort()

    def overdue(self, now_us: int) -> str | None:
        """Say why this connection has to be closed now, or None."""
        if self.close_at_us is not None:
            return "was held" if now_us >= self.close_at_us else None
        limits = self.engine.limits
        if not self.accepted:
            late = now_us - self.opened_us > limits.handshake_timeout_s * US_PER_S
            return "no CONNECT in time" if late else None
        if self.blocked and self._unread.stuck(self.unread_bytes, now_us):
            return "slow consumer: it does not read"
        partial_us = now_us - self._partial_us if self._partial_us and not self._stopped else 0
        if partial_us > limits.packet_timeout_s * US_PER_S:
            return "packet not complete in time"
        silent_us = 0 if self._waits or self._stopped else now_us - self.heard_us
        if self.keepalive_us and silent_us > self.keepalive_us:  # [MQTT-3.1.2-22]
            return "keep-alive timeout"
        return "SVID has expired" if self.peer.expired(self.engine.clock.wall_us()) else None
