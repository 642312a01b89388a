"""A building's images: fetched once, verified, served with the cloud away, never poisoned."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from plantroom.certs import signatures
from plantroom.gateway.images import Images
from plantroom.wire import envelope, ota_messages, topics
from plantroom.wire.clock import SystemClock
from plantroom.wire.envelope import Presence
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import ChunkStatus, Get
from tests.fakes.ota_author import IMAGE, Author, read, signer
from tests.fakes.waiting import eventually

SITE = "building-1"


class Building:
    """A building's broker and its cloud, as the stage sees them."""

    def __init__(self, folder: Path, *, bytes_max: int = 1 << 20) -> None:
        self.author = Author()
        self.anchor = self.author.trust()
        self.folder = folder
        self.bytes_max = bytes_max
        self.online = True
        self.cloud_has = True
        self.spoils: Callable[[int, bytes], bytes] = lambda _, data: data
        self.asked: list[int] = []
        self.said: list[Message] = []
        self.images: Images | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Images]:
        self.images = images = Images(
            anchor=self.anchor,
            verify=signatures.verify,
            folder=self.folder,
            bytes_max=self.bytes_max,
            site=SITE,
            publish=self.publish,
            connected=lambda: self.online,
            clock=SystemClock(),
            broadcast_from=3,
            bytes_per_s=1e9,
        )
        running = asyncio.create_task(images.run())
        try:
            yield images
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def publish(self, message: Message) -> int:
        topic = topics.parse(message.topic)
        if topic.pattern == "ota/{device}/get" and self.online:
            self._cloud(ota_messages.decode(message.payload, Get))
        else:
            self.said.append(message)
        return 0

    def _cloud(self, wanted: Get) -> None:
        size = wanted.chunk_bytes
        if not self.cloud_has:
            status = ChunkStatus(image=wanted.image, status="gone")
            self.hear(f"v1/{SITE}/ota/gateway/chunk/status", ota_messages.encode(status))
            return
        for number in wanted.wanted:
            self.asked.append(number)
            data = self.spoils(number, IMAGE[number * size : (number + 1) * size])
            self.hear(f"v1/{SITE}/ota/gateway/chunk/{number}", data)

    def hear(self, topic: str, payload: bytes) -> None:
        assert self.images is not None
        self.images.offer(Message(topic=topic, payload=payload), "somebody")

    def born(self, device: str = "hvac-001", kind: str = "hvac") -> None:
        presence = Presence(online=True, epoch=1, info={"kind": kind})
        self.hear(f"v1/{SITE}/presence/{device}", envelope.encode(presence))

    def publishes(self, manifest: bytes, *, version: int = 1) -> None:
        self.hear(f"v1/{SITE}/ota/hvac/manifest", manifest)
        self.hear(f"v1/{SITE}/ota/head", self.author.head(version, [manifest]))

    def get(self, device: str, manifest: bytes, *wanted: int, image: bytes = b"") -> None:
        release = read(manifest)
        asked = Get(
            image=image or release.image_digest,
            chunk_bytes=release.chunks.chunk_bytes,
            wanted=wanted,
        )
        self.hear(f"v1/{SITE}/ota/{device}/get", ota_messages.encode(asked))

    def to(self, device: str) -> list[Message]:
        return [one for one in self.said if f"/ota/{device}/" in one.topic]


def has(images: Images) -> int:
    return images.fetched_bytes


def test_what_the_head_names_is_fetched_once_and_served_offline(tmp_path: Path) -> None:
    building = Building(tmp_path)
    manifest = building.author.manifest()
    count = read(manifest).chunks.count

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: has(images) == len(IMAGE))
            building.online = False
            building.get("hvac-001", manifest, *range(count))
            await eventually(lambda: len(building.to("hvac-001")) == count)
        assert sorted(building.asked) == list(range(count))
        assert b"".join(one.payload for one in building.to("hvac-001")) == IMAGE
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            building.said.clear()
            building.get("hvac-002", manifest, 0)
            await eventually(lambda: len(building.to("hvac-002")) == 1)
            assert has(images) == 0, "a restart has it still"

    asyncio.run(scenario())


def test_of_a_class_that_is_not_here_nothing_is_fetched(tmp_path: Path) -> None:
    building = Building(tmp_path)
    manifest = building.author.manifest()

    async def scenario() -> None:
        async with building.running() as images:
            building.born("energy-001", "energy")
            building.publishes(manifest)
            building.get("visitor", manifest, 0)
            await eventually(lambda: has(images) == len(IMAGE))
            (status,) = building.to("visitor")
            assert ota_messages.decode(status.payload, ChunkStatus).status == "later"

    asyncio.run(scenario())
    assert building.asked, "but what a device asks for is"


def test_a_forged_manifest_or_head_fetches_nothing(tmp_path: Path) -> None:
    building = Building(tmp_path)
    forged = building.author.manifest(by=[signer()])

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.hear(f"v1/{SITE}/ota/hvac/manifest", forged)
            building.hear(f"v1/{SITE}/ota/head", building.author.head(1, by=signer()))
            other = building.author.manifest(image=b"another image")
            building.hear(f"v1/{SITE}/ota/energy/manifest", other)
            building.get("hvac-001", forged, 0)
            await eventually(lambda: images.refused == 3 and bool(building.to("hvac-001")))
            (status,) = building.to("hvac-001")
            assert ota_messages.decode(status.payload, ChunkStatus).status == "gone"

    asyncio.run(scenario())
    assert not building.asked


def test_a_spoilt_chunk_is_asked_for_again_alone(tmp_path: Path) -> None:
    building = Building(tmp_path)
    spoilt: set[int] = set()

    def spoil(number: int, data: bytes) -> bytes:
        if number == 2 and number not in spoilt:
            spoilt.add(number)
            return b"evil" + data[4:]
        return data

    building.spoils = spoil
    manifest = building.author.manifest()

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: has(images) == len(IMAGE))

    asyncio.run(scenario())
    assert building.asked.count(2) == 2
    assert building.asked.count(1) == 1


def test_a_building_that_is_cut_off_in_the_middle_completes_it_later(tmp_path: Path) -> None:
    building = Building(tmp_path)
    manifest = building.author.manifest()

    def cut(number: int, data: bytes) -> bytes:
        if number == 3:
            building.online = False
        return data

    building.spoils = cut

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: not building.online)
            building.get("hvac-001", manifest, 0)
            await eventually(lambda: bool(building.to("hvac-001")))
            assert building.to("hvac-001")[0].payload == IMAGE[: read(manifest).chunks.chunk_bytes]
            building.spoils = lambda _, data: data
            building.online = True
            await eventually(lambda: has(images) == len(IMAGE))

    asyncio.run(scenario())


def test_many_devices_share_one_broadcast(tmp_path: Path) -> None:
    building = Building(tmp_path)
    manifest = building.author.manifest()
    release = read(manifest)

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: has(images) == len(IMAGE))
            for number in range(20):
                building.get(f"hvac-{number:03d}", manifest, 0, 1)
            await eventually(lambda: images.broadcasts == release.chunks.count)
            assert images.unicasts <= 4

    asyncio.run(scenario())
    topic = f"v1/{SITE}/fw/{release.image}/"
    sent = [one.payload for one in building.said if one.topic.startswith(topic)]
    assert b"".join(sent) == IMAGE


def test_a_disk_without_room_is_said_and_serving_goes_on(tmp_path: Path) -> None:
    building = Building(tmp_path, bytes_max=1000)
    manifest = building.author.manifest()

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: "no room for an image" in images.trouble)
            building.hear(f"v1/{SITE}/ota/hvac-001/get", b"junk")
            await eventually(lambda: images.refused == 1)

    asyncio.run(scenario())


def test_what_the_cloud_does_not_have_leaves_others_their_turn(tmp_path: Path) -> None:
    building = Building(tmp_path)
    building.cloud_has = False
    manifest = building.author.manifest()

    async def scenario() -> None:
        async with building.running() as images:
            building.born()
            building.publishes(manifest)
            await eventually(lambda: images._fetch is not None and images._fetch.answer == "gone")
            building.cloud_has = True
            images._fetch = None  # as after its pause
            building.born()
            await eventually(lambda: has(images) == len(IMAGE))
            names = {metric.name for metric in images.metrics()}
            assert "plantroom_ota_fetched_bytes_total" in names
            assert f"v1/{SITE}/ota/head" in images.filters()

    asyncio.run(scenario())
