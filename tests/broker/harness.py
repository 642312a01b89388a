"""A broker on a real socket, and a client that speaks raw bytes to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from plantroom.broker.memory import MemorySink
from plantroom.broker.primitives import binary, read_varint, varint
from plantroom.broker.properties import NONE, Properties
from plantroom.broker.properties import encode as encode_properties
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.sink import Sink
from plantroom.wire.clock import SystemClock
from plantroom.wire.identity import Principal
from plantroom.wire.policy import Decision, Question
from plantroom.wire.spiffe import SpiffeId

TIMEOUT_S = 30.0
HVAC = SpiffeId("building-1.smart.local", "agent/hvac-001")
OTHER = SpiffeId("building-1.smart.local", "agent/energy-001")


class JumpingClock:
    """This machine's clocks, stopped: a test moves them, and nothing else does."""

    def __init__(self) -> None:
        self.ahead_us = 0
        self._wall_us = SystemClock().wall_us()
        self._monotonic_us = SystemClock().monotonic_us()

    def wall_us(self) -> int:
        return self._wall_us + self.ahead_us

    def monotonic_us(self) -> int:
        return self._monotonic_us + self.ahead_us

    def jump(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)


class Rules:
    """A decision point: denies what `denied` says; `slow` answers only when awaited."""

    def __init__(self, denied: Callable[[Question], bool] = lambda _: False) -> None:
        self.denied = denied
        self.generation = 1
        self.slow = False
        self.ttl_s = 300.0
        self.asked: list[Question] = []
        self._callbacks: list[Callable[[], None]] = []
        self.release = asyncio.Event()
        self.release.set()

    def now(self, question: Question) -> Decision | None:
        if self.slow:
            return None
        return self._answer(question)

    async def decide(self, question: Question) -> Decision:
        await self.release.wait()
        return self._answer(question)

    def _answer(self, question: Question) -> Decision:
        self.asked.append(question)
        denied = self.denied(question)
        return Decision(
            allow=not denied,
            reason="not-yours" if denied else "ok",
            ttl_s=self.ttl_s,
            revision="r1",
            decision_id=f"d{len(self.asked)}",
            source="rules",
        )

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def change(self, denied: Callable[[Question], bool]) -> None:
        self.denied = denied
        self.generation += 1
        for callback in self._callbacks:
            callback()


def admit_nobody(_connection: Any) -> Principal:
    raise AssertionError("a plain listener admits without asking")


@dataclass(slots=True)
class Live:
    """A running broker."""

    broker: Broker
    port: int
    sink: Sink
    clock: JumpingClock
    _clients: list["Raw"] = field(default_factory=list)

    async def open(self) -> "Raw":
        """Open a TCP connection."""
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        raw = Raw(reader, writer)
        self._clients.append(raw)
        return raw

    async def client(self, client_id: str = "c", **options: Any) -> "Raw":
        """Open a connection and CONNECT; the answer has to be success."""
        raw = await self.open()
        answer = await raw.connect(client_id, **options)
        assert answer[1][1] == 0, answer
        return raw

    def keep_clients(self) -> None:
        """Leave the clients to the test."""
        self._clients.clear()

    def close_clients(self) -> None:
        for raw in self._clients:
            raw.close()


@asynccontextmanager
async def running(  # noqa: PLR0913 -- the parts of a broker
    *,
    sink: Sink | None = None,
    limits: BrokerLimits | None = None,
    decisions: Any = None,
    clock: JumpingClock | None = None,
    taps: tuple[str, ...] = (),
    volatile: tuple[str, ...] = (),
    farewells: tuple[str, ...] = (),
    admit: Callable[[Any], Principal | None] = admit_nobody,
    context: Any = None,
) -> AsyncIterator[Live]:
    """Run a broker on a free port."""
    sink = sink or MemorySink()
    clock = clock or JumpingClock()
    broker = Broker(
        limits=limits or BrokerLimits(sys_interval_s=0.0),
        store=sink,
        admit=admit,
        decisions=decisions,
        clock=clock,
        taps=taps,
        volatile=volatile,
        farewells=farewells,
    )
    async with broker:
        port = await broker.listen("127.0.0.1", 0, context)
        live = Live(broker, port, sink, clock)
        try:
            yield live
        finally:
            live.close_clients()


async def ticked(live: Live) -> None:
    """Wait until the broker has looked at its clock again, and at its connections."""
    engine = live.broker._engine
    assert engine.now_us < live.clock.monotonic_us(), "the test has moved the clock"
    await until(lambda: engine.now_us == live.clock.monotonic_us(), "a tick")


Frame = tuple[int, bytes]


class Raw:
    """A client that says exactly what it is told to say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.version = 4

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def frame(self, timeout_s: float | None = TIMEOUT_S) -> Frame:
        """Read one packet: first byte and body."""
        async with asyncio.timeout(timeout_s):
            first = (await self.reader.readexactly(1))[0]
            length = b""
            while True:
                length += await self.reader.readexactly(1)
                if length[-1] < 128:
                    break
            size, _ = read_varint(length, 0, len(length))
            return first, await self.reader.readexactly(size)

    async def frames(self, count: int) -> list[Frame]:
        return [await self.frame() for _ in range(count)]

    async def silent(self) -> bool:
        """Whether nothing was sent before the answer to a PINGREQ."""
        self.send(b"\xc0\x00")
        return (await self.frame())[0] == 0xD0

    async def closed(self) -> bool:
        """Whether the broker hangs up without another byte."""
        async with asyncio.timeout(TIMEOUT_S):
            with suppress(ConnectionError):
                return not await self.reader.read(1)
            return True

    def close(self) -> None:
        self.writer.close()

    def cut(self) -> None:
        """Break the connection without a goodbye."""
        self.writer.transport.abort()

    async def connect(self, client_id: str = "c", **options: Any) -> Frame:
        """Send CONNECT, return CONNACK."""
        self.version = options.get("version", 4)
        self.send(connect(client_id, **options))
        return await self.frame()

    async def subscribe(
        self,
        *filters: tuple[str, int],
        packet_id: int = 1,
        properties: Properties = NONE,
    ) -> bytes:
        """Send SUBSCRIBE, return the codes of SUBACK (which has to come next)."""
        self.send(
            subscribe(*filters, packet_id=packet_id, version=self.version, properties=properties)
        )
        first, body = await self.frame()
        assert first == 0x90, (first, body)
        assert body[:2] == packet_id.to_bytes(2, "big")
        if self.version == 5:
            length, position = read_varint(body, 2, len(body))
            return body[position + length :]
        return body[2:]

    def publish(  # noqa: PLR0913 -- the fields of a packet
        self,
        topic: str,
        payload: bytes = b"x",
        *,
        qos: int = 1,
        packet_id: int = 1,
        retain: bool = False,
        dup: bool = False,
        properties: Properties = NONE,
    ) -> None:
        self.send(
            publish(
                topic,
                payload,
                qos=qos,
                packet_id=packet_id,
                retain=retain,
                dup=dup,
                version=self.version,
                properties=properties,
            )
        )

    async def acknowledged(self, packet_id: int = 1) -> None:
        """PUBACK with success has to come next."""
        assert await self.frame() == (0x40, packet_id.to_bytes(2, "big"))


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def padded(data: bytes) -> bytes:
    """Write a packet's length in a byte more than it needs, as MQTT 3.1.1 does not forbid."""
    at = 1
    while data[at] > 127:
        at += 1
    return data[:at] + bytes((data[at] | 128, 0)) + data[at + 1 :]


def text(value: str) -> bytes:
    return binary(value.encode())


def connect(  # noqa: PLR0913 -- the fields of a packet
    client_id: str = "c",
    *,
    version: int = 4,
    clean: bool = True,
    keepalive_s: int = 0,
    will: tuple[str, bytes, int, bool] | None = None,
    will_properties: Properties = NONE,
    properties: Properties = NONE,
) -> bytes:
    flags = 2 if clean else 0
    body = text(client_id)
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 4 | qos << 3 | retain << 5
        block = encode_properties(will_properties) if version == 5 else b""
        body += block + text(topic) + binary(payload)
    block = encode_properties(properties) if version == 5 else b""
    head = text("MQTT") + bytes((version, flags)) + keepalive_s.to_bytes(2, "big")
    return packet(0x10, head + block + body)


def publish(  # noqa: PLR0913 -- the fields of a packet
    topic: str,
    payload: bytes = b"x",
    *,
    qos: int = 1,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
    version: int = 4,
    properties: Properties = NONE,
) -> bytes:
    body = text(topic)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += encode_properties(properties)
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def subscribe(
    *filters: tuple[str, int],
    packet_id: int = 1,
    version: int = 4,
    properties: Properties = NONE,
) -> bytes:
    body = packet_id.to_bytes(2, "big")
    if version == 5:
        body += encode_properties(properties)
    for topic_filter, options in filters:
        body += text(topic_filter) + bytes((options,))
    return packet(0x82, body)


def unsubscribe(filters: Sequence[str], *, packet_id: int = 1, version: int = 4) -> bytes:
    body = packet_id.to_bytes(2, "big") + (b"\0" if version == 5 else b"")
    return packet(0xA2, body + b"".join(map(text, filters)))


def puback(packet_id: int) -> bytes:
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


DISCONNECT = b"\xe0\x00"


async def until(claim: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait, bounded, for something that the broker brings about."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not (value := claim()):  # noqa: ASYNC110 -- the broker tells nobody
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about") from None
    return value
