"""The fast path: runs of ordinary publishes and of PUBACKs, without an object for each packet.

Narrow on purpose. It takes a PUBLISH only with first byte 0x32 (QoS 1, no DUP, no RETAIN), complete
in the buffer, on a topic that this connection may publish to, and with properties that travel
unchanged; at the first packet that is anything else it stops, and the plain path goes on there.
"""

from collections.abc import Iterator
from typing import Protocol

from plantroom.broker.clients import Client
from plantroom.broker.codes import Code, PacketType
from plantroom.broker.decode import remaining
from plantroom.broker.engine import Engine
from plantroom.broker.errors import LimitError, PacketError
from plantroom.broker.filters import check_name
from plantroom.broker.guard import Ask, UndecidedError
from plantroom.broker.outlets import Outlet
from plantroom.broker.packets import V5
from plantroom.broker.primitives import text
from plantroom.broker.properties import Property, parse
from plantroom.broker.runs import Receiver, Run
from plantroom.broker.tree import Match

ROUTES_MAX = 1024
_BLOCKS_MAX = 4096
_UNCHANGED = frozenset(
    {Property.PAYLOAD_FORMAT, Property.CONTENT_TYPE, Property.CORRELATION, Property.USER}
)


class Sender(Outlet, Protocol):
    """A connection, as far as the fast path needs it."""

    engine: Engine
    client: Client | None
    version: int
    unanswered: int


class Route:
    """What is known of one topic on one connection, as of `epoch`."""

    __slots__ = ("epoch", "match", "tapped", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.epoch = -1
        self.match: Match[Receiver] | None = None
        self.tapped = False


class FastPath:
    """Takes what it can from the front of a buffer."""

    __slots__ = ("_blocks", "_connection", "_epoch", "_generation", "_routes")

    def __init__(self, connection: Sender) -> None:
        self._connection = connection
        self._routes: dict[bytes, Route] = {}
        self._blocks: dict[bytes, bool] = {}
        self._epoch = 0
        self._generation: tuple[int, int, int] = (-1, -1, -1)

    def leave(self) -> None:
        """Let go of the connection, which holds this: its TLS would wait for the collector."""
        del self._connection

    def take(self, data: bytes, position: int) -> int:
        """Handle packets from `position` on; return where the first that was not handled starts."""
        client = self._connection.client
        if client is None:
            return position
        if data[position] == 0x40 and client.session.in_flight:
            after = client.session.acknowledge_run(data, position)
            if after != position:
                self._connection.engine.progress(client)
                position = after
                if position >= len(data):
                    return position
        if data[position] == 0x32:
            return self._publishes(data, position)
        return position

    def _publishes(self, data: bytes, position: int) -> int:  # noqa: C901, PLR0912, PLR0915
        # One loop on purpose: a call for each packet would cost more than all that it does.
        connection = self._connection
        engine = connection.engine
        generation = engine.generation
        if generation != self._generation:
            self._generation = generation
            self._epoch += 1
        epoch, routes, v5 = self._epoch, self._routes, connection.version == V5
        limit, have = engine.limits.packet_bytes_max, len(data)
        numbers: list[bytes] = []
        offsets: list[int] = []
        match: Match[Receiver] | None = None
        tapped = False
        first = start = position
        while have - position >= 2 and data[position] == 0x32:
            length, at = data[position + 1], position + 2
            if length > 127:
                if at < have and 0 < data[at] < 128:
                    length, at = length & 127 | data[at] << 7, at + 1
                else:
                    length, at = _long(data, position + 1, have)
            end = at + length
            if end > have or end - position > limit or length < 4:
                break
            topic_end = at + 2 + (data[at] << 8 | data[at + 1])
            body = topic_end + 2
            if body + v5 > end:
                break
            key = data[at + 2 : topic_end]
            route = routes.get(key)
            if route is None or route.epoch != epoch:
                route = self._route(key)
                if route is None:
                    break
            number = data[topic_end:body]
            if number == b"\0\0" or (v5 and data[body] and not self._unchanged(data, body, end)):
                break
            if route.match is not match or route.tapped != tapped:
                if offsets:
                    self._add(data[start:position], offsets, match, tapped=tapped)
                    offsets = []
                start, match, tapped = position, route.match, route.tapped
            at = topic_end - start
            offsets.append(at)
            numbers.append(number)
            head, size = data[position:topic_end], end - position
            position = end
            if end < have and data.startswith(head, end):
                more = _alike(data, end, head, size, v5=v5)
                position += size * len(more)
                numbers += more
                offsets += range(at + size, at + size * len(more) + 1, size)
        if numbers:
            self._add(data[start:position], offsets, match, tapped=tapped)
            self._acknowledge(numbers, position - first)
        return position

    def _add(
        self,
        data: bytes,
        offsets: list[int],
        match: Match[Receiver] | None,
        *,
        tapped: bool,
    ) -> None:
        connection = self._connection
        engine, client = connection.engine, connection.client
        if client is None or match is None:
            return
        at_us = engine.clock.wall_us()
        # A run goes to one member of a share: each message has its own, and they take turns.
        for part, places in _single(data) if match.shares else ((data, offsets),):
            engine.journal.run(
                Run(
                    client.session.origin,
                    part,
                    version=connection.version,
                    match=match,
                    at_us=at_us,
                    count=len(places),
                    offsets=places,
                    copyable=True,
                    tapped=tapped,
                )
            )

    def _acknowledge(self, numbers: list[bytes], size_bytes: int) -> None:
        connection = self._connection
        engine = connection.engine
        count = len(numbers)
        engine.counters.publishes_received += count
        engine.journal.acknowledge(
            connection, b"@\2" + b"@\2".join(numbers), count=count, size_bytes=size_bytes
        )
        count_unanswered(connection, count)

    def _route(self, key: bytes) -> Route | None:
        """Decide about a topic; None: the plain path has to look at it."""
        connection = self._connection
        engine, client = connection.engine, connection.client
        route = self._routes.get(key)
        try:
            if route is None:
                topic = check_name(text(key), engine.limits)
                route = Route(topic)
            decision = engine.guard.ask(connection.peer, Ask("publish", route.topic, 1))
        except (PacketError, UndecidedError):
            return None
        tapped, volatile = engine.kind(route.topic)
        if (
            decision.allow is not True
            or route.topic.startswith("$")
            or volatile
            or (tapped and engine.hold is not None)
            or (engine.journal.full and engine.refuses(route.topic, 1))
            or client is None
            or client.no_local
        ):
            return None
        route.match = engine.tree.match(route.topic)
        route.tapped = tapped
        route.epoch = self._epoch
        if key not in self._routes:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[key] = route
        return route

    def _unchanged(self, data: bytes, position: int, end: int) -> bool:
        """Say whether properties are valid and travel as they are; blocks repeat, so remember."""
        length = data[position]
        if length > 127:
            return False
        block = data[position : position + 1 + length]
        known = self._blocks.get(block)
        if known is None or position + 1 + length > end:
            try:
                properties, _ = parse(data, position, end, PacketType.PUBLISH)
            except PacketError:
                return False
            known = _UNCHANGED.issuperset(properties)
            if len(self._blocks) >= _BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = known
        return known


def _long(data: bytes, at: int, have: int) -> tuple[int, int]:
    """Read a length of several bytes; return it (0: not complete, or padded) and where it ends."""
    length = shift = 0
    while at < have and shift < 28:
        byte = data[at]
        at += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (length if byte else 0), at
    return 0, at


def _single(data: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Give each of these publishes, with the place of its packet id."""
    position = 0
    while position < len(data):
        start, end = remaining(data, position)
        size = int.from_bytes(data[start : start + 2], "big")
        yield data[position:end], [start - position + 2 + size]
        position = end


def _alike(data: bytes, position: int, head: bytes, size: int, *, v5: bool) -> list[bytes]:
    """Return the packet ids of whole publishes of this size and head, from `position` on.

    A burst is often of one size on one topic: nothing else has to be looked at then.
    """
    numbers: list[bytes] = []
    have = len(data)
    while position + size <= have and data.startswith(head, position):
        at = position + len(head)
        number = data[at : at + 2]
        if number == b"\0\0" or (v5 and data[at + 2]):  # or it has properties
            break
        numbers.append(number)
        position += size
    return numbers


def count_unanswered(connection: Sender, count: int) -> None:
    """Count publishes of QoS 1 that are not answered yet, and those of QoS 2 that are open.

    What a former connection has left open does not count: each begins with all it may [4.9].

    Raises:
        LimitError: when an MQTT 5 client sends more than the receive maximum.
    """
    connection.unanswered += count
    client = connection.client
    if connection.version != V5 or client is None:
        return
    maximum = connection.engine.limits.receive_maximum
    opened = len(client.session.incoming) - len(client.former)
    if connection.unanswered + opened > maximum:  # [MQTT-3.3.4-7]
        raise LimitError(
            f"more than {maximum} publishes without an answer",
            limit="receive_maximum",
            code=Code.RECEIVE_MAXIMUM_EXCEEDED,
        )
