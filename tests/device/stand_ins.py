"""What the device's tests stand on: a clock that is set by hand, samples, and a small gateway."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from plantroom.broker.memory import MemorySink
from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.certs.svid import verify_peer
from plantroom.device.driver import Taken
from plantroom.device.outbox import Outbox
from plantroom.device.ring import Limits
from plantroom.wire import envelope, senml
from plantroom.wire.clock import Clock, SystemClock
from plantroom.wire.envelope import Call, Note, Notes, Presence, Reply
from plantroom.wire.identity import Identity
from plantroom.wire.link import Message
from plantroom.wire.reading import Point, Reading, Sample
from plantroom.wire.tls import RotatingServerContext
from tests.fakes.issuer import Issuer
from tests.fakes.ports import free_port
from tests.fakes.waiting import until

NOW_US = 1_795_363_200_000_000  # 2026-11-22T16:00:00Z
DEVICE = "spiffe://building-1.smart.local/agent/hvac-001"
GATEWAY_PATH = "agent/gateway"


@dataclass
class FakeClock:
    wall: int = NOW_US
    mono: int = 5_000_000

    def wall_us(self) -> int:
        return self.wall

    def monotonic_us(self) -> int:
        return self.mono

    def pass_s(self, seconds: float) -> None:
        self.wall += round(seconds * 1_000_000)
        self.mono += round(seconds * 1_000_000)


def sample(value: float = 21.5, *, text: str = "", time_us: int = NOW_US) -> Sample:
    points = [Point(name="temperature", unit="Cel", value=value)]
    if text:
        points.append(Point(name="text", unit=None, value=text))
    return Sample(device="", time_us=time_us, points=tuple(points))


def taken(*values: float, position: str | None = None) -> list[Taken]:
    return [Taken(sample=sample(value), position=position) for value in values]


def open_outbox(path: Path, clock: Clock | None = None, **limits: int) -> Outbox:
    return open_outbox_in_boot("", path, clock, **limits)


def open_outbox_in_boot(
    boot: str, /, path: Path, clock: Clock | None = None, **limits: int
) -> Outbox:
    return Outbox.open(
        path,
        device=DEVICE,
        limits=Limits(**limits),
        clock=clock or FakeClock(),
        randbits=lambda bits: (1 << bits) - 1,
        boot=boot,
    )


def middle(low: float, high: float) -> float:
    """Stands in for a random draw."""
    return (low + high) / 2


async def _closed() -> None:
    """Wait, within bounds, until every connection of this loop has ended its TLS and gone."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(300):
        if len(loop._selector.get_map()) <= 1:  # asyncio's own pipe
            return
        await asyncio.sleep(0.01)


@dataclass
class Gateway:
    """A real broker over real mTLS in a thread of its own; what it was sent is kept."""

    issuer: Issuer = field(default_factory=lambda: Issuer("building-1.smart.local"))
    port: int = 0
    readings: dict[tuple[int, int], Reading] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _broker: Broker | None = None

    def __post_init__(self) -> None:
        self.identity = self.issuer.identity(GATEWAY_PATH)

    @contextmanager
    def serving(self) -> Iterator["Gateway"]:
        """Serve; a second time, on the same port."""
        ready, done = threading.Event(), threading.Event()

        async def main() -> None:
            self._loop, stop = asyncio.get_running_loop(), asyncio.Event()
            async with self._make() as self._broker:
                self._watch(self._broker)
                context = RotatingServerContext(self.identity).context
                self.port = self.port or free_port()
                await self._broker.listen("127.0.0.1", self.port, context)
                self._stop = partial(self._loop.call_soon_threadsafe, stop.set)
                ready.set()
                await stop.wait()
            await _closed()

        def run() -> None:
            try:
                asyncio.run(main())
            finally:
                ready.set()
                done.set()

        thread = threading.Thread(target=run, name="gateway")
        thread.start()
        try:
            assert ready.wait(60)
            yield self
        finally:
            self._stop()
            assert done.wait(60)
            thread.join(60)

    def _make(self) -> Broker:
        return Broker(
            limits=BrokerLimits(),
            store=MemorySink(),
            admit=partial(verify_peer, identity=self.identity),
            decisions=None,
            clock=SystemClock(),
            taps=("v1/+/telemetry/+",),
        )

    def _watch(self, broker: Broker) -> None:
        def telemetry(message: Message, _who: str) -> None:
            self.spans.append(message.user.get("range", ""))
            if message.content_type == envelope.CONTENT_TYPE:
                self.notes += envelope.decode(message.payload, Notes).notes
                return
            for reading in senml.decode(message.payload).readings:
                self.readings[reading.epoch, reading.seq] = reading

        broker.watch("v1/+/telemetry/+", telemetry)
        broker.watch(
            "v1/+/presence/+",
            lambda message, _who: self.presences.append(envelope.decode(message.payload, Presence)),
        )
        broker.watch(
            "v1/+/reply/+/+",
            lambda message, _who: self.replies.append(envelope.decode(message.payload, Reply)),
        )

    def on_loop(self, act: Callable[[Broker], object]) -> None:
        """Do something with the broker, on its own thread."""
        loop, broker = self._loop, self._broker
        assert loop is not None
        assert broker is not None
        done = threading.Event()

        def run() -> None:
            with suppress(Exception):
                act(broker)
            done.set()

        loop.call_soon_threadsafe(run)
        assert done.wait(60)

    def call(self, capability: str, *, key: str = "", name: str = "c1") -> Reply:
        """Ask the device, and wait for its answer."""
        loop, broker = self._loop, self._broker
        assert loop is not None
        assert broker is not None
        call = Call(
            id=name,
            reply_to=f"v1/building-1/reply/tester/{name}",
            timeout_s=60,
            idempotency_key=key,
            data={},
        )
        message = Message(
            topic=f"v1/building-1/call/hvac-001/{capability}/tester",
            payload=envelope.encode(call),
        )
        asyncio.run_coroutine_threadsafe(
            broker.publish(message, publisher="spiffe://td/tester"), loop
        ).result(60)
        found = until(
            lambda: [reply for reply in self.replies if reply.id == name],
            deadline_s=60,
            what="a reply",
        )
        return found[0]

    def device_identity(self, revision: int = 1) -> Identity:
        return self.issuer.identity("agent/hvac-001", revision=revision)
