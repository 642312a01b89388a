"""Firmware in a building: fetched from the cloud once, verified, kept, and served to its sensors.

It hears what sensors hear, verifies it as they do, and fetches every image that the head names for
a class of this building as soon as it is named: a building that is cut off afterwards goes on. What
it says to the cloud and hears from it crosses the bridge as messages of the building's own broker.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from plantroom.gateway.image_fetch import ImageFetch
from plantroom.gateway.image_serving import CHUNK_PATTERN, ImageServing
from plantroom.wire import envelope, firmware, ota_messages, topics
from plantroom.wire.clock import Clock
from plantroom.wire.cose import Verify
from plantroom.wire.envelope import Presence
from plantroom.wire.errors import PlantroomError, RejectedError, StorageError
from plantroom.wire.firmware import Release
from plantroom.wire.image_store import HeldImage, ImageStore
from plantroom.wire.link import Message
from plantroom.wire.metrics import Metric
from plantroom.wire.ota_documents import Documents
from plantroom.wire.ota_messages import GATEWAY_IMAGES, STATUS, ChunkStatus, Get
from plantroom.wire.topics import Topic

_log = logging.getLogger("plantroom.gateway.images")
GET_PATTERN: Final = "ota/{device}/get"
_HEARD: Final = (
    "ota/trust/{n}",
    "ota/head",
    "ota/{class}/manifest",
    GET_PATTERN,
    "presence/{device}",
)
VOLATILE: Final = (GET_PATTERN, CHUNK_PATTERN, "fw/{digest}/{n}")  # never on the queue's disk
_WAITING_MAX: Final = 4_000
_TICK_S: Final = 0.02
_IDLE_S: Final = 1.0
_TROUBLE_S: Final = 10.0
_FORGET_S: Final = 600.0

Publish = Callable[[Message], Awaitable[int]]


class Images:
    """The stage that serves images; `connected` says whether the cloud is there."""

    def __init__(  # noqa: PLR0913 -- its collaborators, each named
        self,
        *,
        anchor: bytes,
        verify: Verify,
        folder: Path,
        bytes_max: int,
        site: str,
        publish: Publish,
        connected: Callable[[], bool],
        clock: Clock,
        broadcast_from: int,
        bytes_per_s: float,
    ) -> None:
        self._documents = Documents(anchor, verify=verify)
        self._store = ImageStore(folder, bytes_max=bytes_max)
        self._site = site
        self._publish = publish
        self._connected = connected
        self._clock = clock
        self._broadcast_from = broadcast_from
        self._bytes_per_s = bytes_per_s
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(_WAITING_MAX)
        self._kinds: set[str] = set()
        self._class_names: dict[bytes, str] = {}
        self._wanted: dict[str, Release] = {}  # asked for by a device, though no class of ours
        self._serving: dict[str, ImageServing] = {}
        self._fetch: ImageFetch | None = None
        self._quiet_until_s = 0.0
        self.trouble = ""
        self.dropped = 0
        self.fetched_bytes = 0
        self.unicasts = 0
        self.broadcasts = 0
        self.refused = 0

    def filters(self) -> list[str]:
        """Return what of the building's broker it has to hear."""
        own = topics.subscription(CHUNK_PATTERN, self._site, GATEWAY_IMAGES)
        return [own, *(topics.subscription(pattern, self._site) for pattern in _HEARD)]

    def offer(self, message: Message, _publisher: str) -> None:
        """Take a message; beyond the bound it is dropped: whoever asked will ask again."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._turn()
        finally:
            self._store.close()

    async def _turn(self) -> None:
        busy = any(serving.broadcasting for serving in self._serving.values())
        first: Message | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK_S if busy else _IDLE_S):
                first = await self._waiting.get()
        if first is not None:
            await self._take(first)
        while not self._waiting.empty():
            await self._take(self._waiting.get_nowait())
        try:
            await self._broadcast()
            await self._ask()
        except StorageError as error:
            self._stumble(error)

    async def _take(self, message: Message) -> None:
        if not message.payload:
            return
        try:
            topic = topics.parse(message.topic)
            if topic.pattern == GET_PATTERN:
                await self._get(topic, message.payload)
            elif topic.pattern == CHUNK_PATTERN:
                await self._chunk(topic, message.payload)
            elif topic.pattern == "presence/{device}":
                self._present(message.payload)
            else:
                self._document(topic, message.payload)
        except StorageError as error:
            self._stumble(error)
        except PlantroomError as error:
            self.refused += 1
            _log.warning("%s is refused: %s", message.topic, error)

    def _stumble(self, error: StorageError) -> None:
        """Leave a disk that has no room alone for a while; readings come first."""
        self._quiet_until_s = self._now_s + _TROUBLE_S
        self._fetch = None
        if str(error) != self.trouble:
            self.trouble = str(error)
            _log.error("images: %s", error)

    # what is true

    def _document(self, topic: Topic, payload: bytes) -> None:
        if topic.pattern == "ota/head":
            self._documents.feed_head(payload)
        elif topic.pattern == "ota/trust/{n}":
            self._documents.feed_trust(payload)
        else:
            release = self._documents.feed_manifest(payload)
            name = topic.names[0]
            if not firmware.class_is(name, vendor_id=release.vendor_id, class_id=release.class_id):
                raise RejectedError(f"manifest is not of class {name}", code="wrong-class")
            self._class_names[release.class_id] = name
        self._quiet_until_s = 0.0

    def _present(self, payload: bytes) -> None:
        presence: Presence = envelope.decode(payload, Presence)
        if len(self._kinds) < 1_000:
            self._kinds.add(presence.info.get("kind", ""))

    def _named(self) -> Iterable[Release]:
        """Give the releases that the head names for classes that are here."""
        head = self._documents.head
        if head is None:
            return
        for pin in head.classes.values():
            release = self._documents.releases.get(pin.digest)
            if release is not None and self._class_names.get(release.class_id) in self._kinds:
                yield release

    def _is_kept(self, image: str) -> bool:
        return any(release.image == image for release in self._named())

    def _find(self, wanted: Get) -> Release | None:
        for release in self._documents.releases.values():
            if (release.image_digest, release.chunks.chunk_bytes) == (
                wanted.image,
                wanted.chunk_bytes,
            ):
                return release
        return None

    # from the cloud

    async def _ask(self) -> None:
        """Fetch what is wanted and not there, one image at a time."""
        if self._now_s < self._quiet_until_s:
            return
        if not self._connected():
            if self._fetch is not None:
                self._fetch.lost()
            return
        if self._fetch is None or self._fetch.held.complete or self._fetch.answer == "gone":
            await self._choose()
        request = self._fetch.next(self._now_s) if self._fetch else None
        if request is not None:
            topic = topics.build(GET_PATTERN, self._site, GATEWAY_IMAGES)
            payload = ota_messages.encode(request)
            await self._publish(Message(topic=topic, payload=payload))

    async def _choose(self) -> None:
        """Take the next image that is not whole; a whole one is looked at as a whole, once."""
        last, self._fetch = self._fetch, None
        if last is not None and last.held.complete:
            await self._finish(last.held)
        candidates = {release.image: release for release in self._named()} | self._wanted
        unfinished = []
        for release in candidates.values():
            held = await self._hold(release)
            if held.complete:
                self._wanted.pop(release.image, None)
            else:
                unfinished.append(held)
        others = [held for held in unfinished if last is None or held is not last.held]
        if others or unfinished:
            self._fetch = ImageFetch((others or unfinished)[0], self._now_s)
            if last is not None and self._fetch.held is last.held:
                self._fetch = last  # it remembers when to ask again

    async def _finish(self, held: HeldImage) -> None:
        if await asyncio.to_thread(held.is_whole):
            self.trouble = ""
            _log.info("image %s of %s is here", held.release.image[:16], held.release.version)
        else:
            self._store.drop(held.release.image)
            self._serving.pop(held.release.image, None)

    async def _hold(self, release: Release) -> HeldImage:
        known = self._store.known(release)
        if known is not None:
            return known
        return await asyncio.to_thread(self._store.hold, release, keep=self._is_kept)

    async def _chunk(self, topic: Topic, payload: bytes) -> None:
        device, number = topic.names
        if device != GATEWAY_IMAGES or self._fetch is None:
            return
        if number == STATUS:
            self._fetch.told(ota_messages.decode(payload, ChunkStatus), self._now_s)
        elif number.isdecimal() and len(number) < 10:
            if self._fetch.receive(int(number), payload, self._now_s):
                self.fetched_bytes += len(payload)
            await self._ask()

    # to sensors

    async def _get(self, topic: Topic, payload: bytes) -> None:
        device = topic.names[0]
        if device == GATEWAY_IMAGES:
            return  # our own question to the cloud
        wanted = ota_messages.decode(payload, Get)
        release = self._find(wanted)
        if release is None or max(wanted.wanted) >= release.chunks.count:
            status = ChunkStatus(image=wanted.image, status="gone")
            name = topics.build(CHUNK_PATTERN, self._site, device, STATUS)
            await self._publish(Message(topic=name, payload=ota_messages.encode(status)))
            return
        serving = await self._served(release)
        if not serving.held.complete and release.image not in self._wanted:
            self._wanted[release.image] = release
        for message in serving.answer(device, wanted, self._now_s):
            self.unicasts += 1
            await self._publish(message)

    async def _served(self, release: Release) -> ImageServing:
        held = await self._hold(release)
        known = self._serving.get(release.image)
        if known is None or known.held is not held:
            known = self._serving[release.image] = ImageServing(
                held,
                site=self._site,
                broadcast_from=self._broadcast_from,
                bytes_per_s=self._bytes_per_s,
            )
        return known

    async def _broadcast(self) -> None:
        for serving in [*self._serving.values()]:
            for message in serving.due(self._now_s):
                self.broadcasts += 1
                await self._publish(message)
            if self._now_s - serving.asked_s > _FORGET_S:
                del self._serving[serving.held.release.image]

    @property
    def _now_s(self) -> float:
        return self._clock.monotonic_us() / 1_000_000

    def metrics(self) -> list[Metric]:
        """Give its figures."""
        return [
            Metric(
                "plantroom_ota_fetched_bytes_total",
                "counter",
                "Bytes of images fetched from the cloud.",
                self.fetched_bytes,
            ),
            Metric(
                "plantroom_ota_unicast_chunks_total",
                "counter",
                "Chunks and words given to single sensors.",
                self.unicasts,
            ),
            Metric(
                "plantroom_ota_broadcast_chunks_total",
                "counter",
                "Chunks given to all sensors at once.",
                self.broadcasts,
            ),
            Metric(
                "plantroom_ota_refused_total",
                "counter",
                "Documents and messages of updates that were refused.",
                self.refused,
            ),
        ]
