"""The update service without a broker: messages in, messages out, over real files."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

from plantroom.certs import signatures
from plantroom.cloud import ota_service
from plantroom.cloud.ota import Updates
from plantroom.cloud.ota_calls import OtaCalls
from plantroom.cloud.ota_images import OtaImages
from plantroom.cloud.ota_registry import OtaRegistry
from plantroom.cloud.ota_sites import Sites
from plantroom.wire import envelope, ota_messages, topics
from plantroom.wire.envelope import Call, Presence, Reply
from plantroom.wire.errors import RefusedError
from plantroom.wire.image_store import ImageStore
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import Assign, Report
from tests.fakes.ota_author import IMAGE, NOW_US, Author, read

SITE = "building-1"
OPERATOR = "cloud:operator:ann"


class SteppedClock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


class Served(Updates):
    """As the service drives it: nothing is said that is not written."""

    async def take(self, messages: Iterable[Message]) -> list[Message]:
        said = await super().take(messages)
        await self.flush()
        return said

    async def tick(self) -> list[Message]:
        said = await super().tick()
        await self.flush()
        return said


class OtaCloud:
    """The service with an author's keys; `restart` reads everything from the disk again."""

    def __init__(self, folder: Path, author: Author | None = None) -> None:
        self.folder = folder
        self.author = author or Author()
        self.anchor = self.author.trust()
        self.clock = SteppedClock()
        self.banned: set[str] = set()
        self.bytes_max = 1 << 20
        self._calls = 0

    @contextlib.contextmanager
    def opened(self, kind: type[Updates] = Served) -> Iterator[Updates]:
        sites = Sites(
            self.anchor,
            verify=signatures.verify,
            signer=self.author.heads[0],
            issuer="spiffe://smart-building.cloud/agent/ota",
        )
        registry = OtaRegistry(self.folder / "ota.db")
        images = OtaImages(
            ImageStore(self.folder / "images", bytes_max=self.bytes_max),
            find=sites.of_image,
            keep=ota_service.current(sites),
        )
        updates = kind(sites, images, registry, self.clock)
        updates.answer = OtaCalls(updates, self._standing).answer
        try:
            yield updates
        finally:
            images.close()
            registry.close()

    async def _standing(self, _site: str, device: str) -> str:
        return "this device is revoked" if device in self.banned else ""

    def run(self, work: Callable[[Updates], Coroutine[Any, Any, None]]) -> None:
        async def scenario() -> None:
            with self.opened() as updates:
                await updates.restore()
                await work(updates)

        asyncio.run(scenario())

    async def call(
        self, updates: Updates, capability: str, data: object = None, *, caller: str = OPERATOR
    ) -> Any:
        """Call; return the answer's data.

        Raises:
            RefusedError: with the answer's error.
        """
        said = await self.calling(updates, capability, data, caller=caller)
        reply: Reply = envelope.decode(said[-1].payload, Reply)
        if reply.error is not None:
            raise RefusedError(reply.error, reason="answer")
        return reply.data

    async def calling(
        self, updates: Updates, capability: str, data: object, *, caller: str = OPERATOR
    ) -> list[Message]:
        """Call; return everything that is said, the answer last."""
        self._calls += 1
        name = str(self._calls)
        site = "cloud" if caller.startswith("cloud:") else SITE
        call = Call(
            id=name,
            reply_to=topics.build("reply/{caller}/{id}", site, caller, name),
            timeout_s=5.0,
            idempotency_key="",
            data=data,
        )
        topic = topics.build("call/{target}/{capability}/{caller}", site, "ota", capability, caller)
        return await updates.take([Message(topic=topic, payload=envelope.encode(call))])


def manifest(author: Author, *, site: str = SITE, rollout: str = "", **changes: Any) -> Message:
    user = {"rollout": rollout} if rollout else {}
    return Message(
        topic=topics.build("ota/{class}/manifest", site, "hvac"),
        payload=author.manifest(**changes),
        retain=True,
        user=user,
    )


def upload(author: Author, image: bytes = IMAGE) -> list[Message]:
    release = read(author.manifest(image=image))
    size = release.chunks.chunk_bytes
    return [
        Message(
            topic=topics.build("fw/{digest}/{n}", "cloud", release.image, str(number)),
            payload=image[number * size : (number + 1) * size],
        )
        for number in range(release.chunks.count)
    ]


def born(device: str, kind: str = "hvac", site: str = SITE) -> Message:
    presence = Presence(online=True, epoch=1, info={"kind": kind})
    return Message(
        topic=topics.build("presence/{device}", site, device), payload=envelope.encode(presence)
    )


def report(device: str, state: Any, *, number: int = 1, site: str = SITE, **said: Any) -> Message:
    payload = ota_messages.encode(Report(number=number, state=state, **said))
    return Message(topic=topics.build("ota/{device}/state", site, device), payload=payload)


def assigned(messages: list[Message]) -> dict[str, Assign]:
    found = {}
    for message in messages:
        topic = topics.parse(message.topic)
        if topic.pattern == "ota/{device}/assign":
            found[topic.names[0]] = ota_messages.decode(message.payload, Assign)
    return found
