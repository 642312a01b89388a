"""One image for a building full of sensors: how long, what crosses the WAN, and readings meanwhile.

The gateway's broker and its images run in a process of their own, with mutual TLS and a durable
sink; a hundred connections in this one are sensors with the product's own rules of downloading.
"""

import asyncio
import logging
import multiprocessing
import random
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles

import uvloop

from plantroom.broker.server import Broker
from plantroom.broker.settings import BrokerLimits
from plantroom.broker.store import MIGRATIONS, SqliteStore
from plantroom.certs import admission, signatures
from plantroom.certs.authority import Authority
from plantroom.certs.embedded import EmbeddedSource
from plantroom.device.updater_download import Download, Patience
from plantroom.device.updater_part import Part
from plantroom.gateway.images import VOLATILE, Images
from plantroom.wire import envelope, ota_messages, tls, topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.database import Database
from plantroom.wire.envelope import Presence
from plantroom.wire.firmware import Release
from plantroom.wire.link import Message
from plantroom.wire.mqtt_link import MqttLink
from plantroom.wire.ota_messages import Get
from plantroom.wire.spiffe import SpiffeId
from tests.bench.kit import figures
from tests.bench.kit.figures import Figure
from tests.fakes.ota_author import Author, read

IMAGE_BYTES = 1_000_000
SENSORS = 100
SECONDS_MAX = 5.0
_DOMAIN, _SITE = "building-1.smart.local", "building-1"
_GATEWAY = SpiffeId(_DOMAIN, "agent/gateway")
_WAIT_S, _CALM_S = 60.0, 3.0
_READINGS_MAX = 10_000
Say = Callable[[str], None]


def measured(folder: Path, *, quick: bool, say: Say) -> Iterator[Figure]:
    """Update buildings of several sizes."""
    sizes = (SENSORS,) if quick else (1, 10, SENSORS)
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            found = uvloop.run(_building(Path(place), size))
        say(f"{size} sensors: {found.seconds:.2f} s, {found.wan_bytes} bytes from the cloud")
        name = (
            f"{size} sensors, 1 MB each, by broadcast and repair" if size > 1 else "1 sensor, 1 MB"
        )
        target = SECONDS_MAX if size == SENSORS else None
        yield figures.alone(name, found.seconds, unit="s", target=target, better="less")
        yield figures.compared(
            f"bytes on the WAN for each of {size} sensors",
            [figures.Pair(found.wan_bytes / size, IMAGE_BYTES)],
            peer_name="an image each",
            unit="B",
            target=1 / size,
            better="less",
        )
        if size == SENSORS:
            yield figures.compared(
                "p99 of a reading's PUBACK while the image travels",
                [figures.Pair(found.p99_ms(busy=True), found.p99_ms(busy=False))],
                peer_name="before",
                unit="ms",
                better="less",
                note="50 readings/s; the sensors share two cores with the gateway",
            )


@dataclass(frozen=True, slots=True)
class _Found:
    seconds: float
    wan_bytes: int
    begin_s: float
    end_s: float
    readings: tuple[tuple[float, float], ...] = ()

    def p99_ms(self, *, busy: bool) -> float:
        """Return the readings' p99 while the image travelled, or before."""
        span = (self.begin_s, self.end_s) if busy else (0.0, self.begin_s)
        return _p99_ms([took_s for at_s, took_s in self.readings if span[0] <= at_s < span[1]])


async def _building(folder: Path, size: int) -> _Found:
    image = random.Random(size).randbytes(IMAGE_BYTES)  # noqa: S311 -- any bytes
    author = Author(now_s=int(time.time()))
    manifest = author.manifest(image=image)
    authority = Authority.open(folder / "authority", _DOMAIN, clock=SystemClock())
    documents = (author.trust(), manifest, author.head(1, [manifest]), image)
    with _child(_gateway, folder, documents) as gateway:
        port: int = await asyncio.to_thread(gateway.recv)
        with _child(_reader, folder, port) as reader:
            found = await _sensors(authority, port, read(manifest), size, gateway)
            reader.send("stop")
            return replace(found, readings=tuple(await asyncio.to_thread(reader.recv)))


@contextmanager
def _child(work: Callable[..., None], *what: object) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*what, theirs))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(_WAIT_S)


async def _sensors(
    authority: Authority, port: int, release: Release, size: int, pipe: Connection
) -> _Found:
    async with AsyncExitStack() as stack:
        sensors = [_Sensor(f"s-{number}", release) for number in range(size)]
        for sensor in sensors:
            link = MqttLink("127.0.0.1", port, sensor.name, _context(authority, sensor.name))
            await sensor.listen(await stack.enter_async_context(link))
        await asyncio.sleep(_CALM_S)
        begin_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for sensor in sensors:
                tasks.create_task(sensor.run(), name="bench.sensor")
        end_s = max(one.ended_s for one in sensors)
        pipe.send("stop")
        wan_bytes = await asyncio.to_thread(pipe.recv)
    return _Found(seconds=end_s - begin_s, wan_bytes=wan_bytes, begin_s=begin_s, end_s=end_s)


def _context(authority: Authority, name: str) -> ssl.SSLContext:
    source = EmbeddedSource(authority, SpiffeId(_DOMAIN, f"agent/{name}"))
    return tls.client_context(source.current(), server_ids=[_GATEWAY])


def _reader(folder: Path, port: int, pipe: Connection) -> None:
    """Publish readings in a process of its own, and time their PUBACKs, until told to stop."""

    async def publish() -> None:
        authority = Authority.open(folder / "authority", _DOMAIN, clock=SystemClock())
        taken: list[tuple[float, float]] = []
        async with MqttLink("127.0.0.1", port, "reader", _context(authority, "reader")) as link:
            while not pipe.poll() and len(taken) < _READINGS_MAX:
                begin_s = time.monotonic()
                topic = topics.build("telemetry/{device}", _SITE, "reader")
                await link.publish(Message(topic=topic, payload=bytes(100)))
                taken.append((begin_s, time.monotonic() - begin_s))
                await asyncio.sleep(0.02)
        pipe.send(taken)

    uvloop.run(publish())


def _p99_ms(seconds: list[float]) -> float:
    return 1000 * (quantiles(seconds, n=100)[-1] if len(seconds) > 1 else seconds[0])


class _Memory:
    """A device's storage without a disk: a hundred devices have a hundred disks."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def read(self, name: str, offset: int, size: int) -> bytes:
        return bytes(self._files.get(name, b"")[offset : offset + size])

    def write(self, name: str, offset: int, data: bytes) -> None:
        self._files.setdefault(name, bytearray())[offset : offset + len(data)] = data

    def reserve(self, name: str, size: int) -> None:
        self._files.setdefault(name, bytearray()).extend(bytes(size))

    def sync(self, name: str) -> None:
        """Be on the disk."""

    def rename(self, old: str, new: str) -> None:
        self._files[new] = self._files.pop(old)

    def remove(self, name: str) -> None:
        self._files.pop(name, None)


class _Sensor:
    """The product's rules of downloading, on a connection of their own."""

    def __init__(self, name: str, release: Release) -> None:
        self.name = name
        self.ended_s = 0.0
        self._release = release
        self._part = Part(_Memory(), release)
        self._link: MqttLink | None = None

    async def listen(self, link: MqttLink) -> None:
        self._link = link
        await link.subscribe(topics.subscription("ota/{device}/chunk/{n}", _SITE, self.name))
        await link.subscribe(topics.subscription("fw/{digest}/{n}", _SITE, self._release.image))

    async def run(self) -> None:
        assert self._link is not None
        download = Download(self._part, Patience(), time.monotonic())
        async with asyncio.timeout(_WAIT_S), asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(self._hear(self._link, download), name="bench.hear")
            while not self._part.complete:
                request = download.next(time.monotonic())
                if request is not None:
                    topic = topics.build("ota/{device}/get", _SITE, self.name)
                    await self._link.publish(
                        Message(topic=topic, payload=ota_messages.encode(request), qos=0)
                    )
                await asyncio.sleep(0.02)
            self.ended_s = time.monotonic()
            hearing.cancel()

    async def _hear(self, link: MqttLink, download: Download) -> None:
        async for message in link.messages():
            topic = topics.parse(message.topic)
            number, now_s = topic.names[1], time.monotonic()
            if number == ota_messages.STATUS:
                download.told(ota_messages.decode(message.payload, ota_messages.ChunkStatus), now_s)
            else:
                broadcast = topic.pattern.startswith("fw/")
                download.receive(int(number), message.payload, now_s, broadcast=broadcast)


def _gateway(folder: Path, documents: tuple[bytes, bytes, bytes, bytes], pipe: Connection) -> None:
    """Serve in a process of its own; the cloud is a look into memory, and counted."""
    logging.disable(logging.WARNING)  # that everybody leaves at the end is no news
    uvloop.run(_serve(folder, documents, pipe))


async def _serve(
    folder: Path, documents: tuple[bytes, bytes, bytes, bytes], pipe: Connection
) -> None:
    anchor, manifest, head, image = documents
    authority = Authority.open(folder / "authority", _DOMAIN, clock=SystemClock())
    source = EmbeddedSource(authority, _GATEWAY, ips=("127.0.0.1",))
    database = Database.open(folder / "queue.db", MIGRATIONS)
    broker = Broker(
        limits=BrokerLimits(),
        store=SqliteStore(database),
        admit=admission.admit(source),
        decisions=None,
        clock=SystemClock(),
        taps=(topics.subscription("telemetry/{device}", _SITE),),
        volatile=tuple(topics.subscription(pattern, _SITE) for pattern in VOLATILE),
    )

    async def publish(message: Message) -> int:
        if message.topic == topics.build("ota/{device}/get", _SITE, "gateway"):
            wanted = ota_messages.decode(message.payload, Get)
            for number in wanted.wanted:
                data = image[number * wanted.chunk_bytes : (number + 1) * wanted.chunk_bytes]
                topic = topics.build("ota/{device}/chunk/{n}", _SITE, "gateway", str(number))
                images.offer(Message(topic=topic, payload=data), "cloud")
            return 0
        return await broker.publish(message, publisher=str(_GATEWAY))

    images = Images(
        anchor=anchor,
        verify=signatures.verify,
        folder=folder / "images",
        bytes_max=64 * IMAGE_BYTES,
        site=_SITE,
        publish=publish,
        connected=lambda: True,
        clock=SystemClock(),
        broadcast_from=3,
        bytes_per_s=1_000_000.0,
    )
    for topic_filter in images.filters():
        broker.watch(topic_filter, images.offer)
    presence = Presence(online=True, epoch=1, info={"kind": "hvac"})
    images.offer(
        Message(topic=f"v1/{_SITE}/presence/s-0", payload=envelope.encode(presence)), "s-0"
    )
    images.offer(Message(topic=f"v1/{_SITE}/ota/hvac/manifest", payload=manifest), "cloud")
    images.offer(Message(topic=f"v1/{_SITE}/ota/head", payload=head), "cloud")
    async with broker, asyncio.TaskGroup() as tasks:
        context = tls.RotatingServerContext(source.current())
        serving = tasks.create_task(images.run(), name="bench.images")
        pipe.send(await broker.listen("127.0.0.1", 0, context.context))
        try:
            await asyncio.to_thread(pipe.recv)
            pipe.send(images.fetched_bytes)
            await asyncio.to_thread(pipe.poll, _WAIT_S)  # until it is closed
        except EOFError:
            pass
        serving.cancel()
    database.close()
