"""Images in the cloud: uploaded by their authors, chunk by chunk, served to gateways."""

import asyncio
from collections.abc import Callable
from typing import Final

from plantroom.wire import ota_messages, topics
from plantroom.wire.firmware import Release
from plantroom.wire.image_store import HeldImage, ImageStore
from plantroom.wire.link import Message
from plantroom.wire.ota_messages import GATEWAY_IMAGES, STATUS, ChunkStatus, Get

CHUNK_PATTERN: Final = "ota/{device}/chunk/{n}"
LATER_S: Final = 2.0
_MISSING_MAX: Final = 64

Find = Callable[[str], Release | None]
Keep = Callable[[str], bool]


class OtaImages:
    """The store, and whoever asks of it; `find` gives a release by its image, `keep` who stays."""

    def __init__(self, store: ImageStore, *, find: Find, keep: Keep) -> None:
        self._store = store
        self._find = find
        self._keep = keep
        self._whole: set[str] = set()
        self._opening = asyncio.Lock()
        self.dropped = 0
        self.served = 0

    async def upload(self, image: str, number: str, data: bytes) -> Release | None:
        """Take a chunk; return the release when with it the image is whole.

        What belongs to no release that is registered, or is not what was signed, is dropped.

        Raises:
            StorageFullError: when there is no room.
        """
        release = self._find(image)
        if release is None or not number.isdecimal() or len(number) > 9:
            self.dropped += 1
            return None
        held = await self._hold(release)
        if not held.put(int(number), data):
            self.dropped += 1
            return None
        if not held.complete or image in self._whole:
            return None
        return release if await self._is_whole(held) else None

    async def serve(self, site: str, wanted: Get) -> list[Message]:
        """Answer a gateway's request."""
        image = wanted.image.hex()
        release = self._find(image)
        held = None if release is None else await self._hold(release)
        if held is None or not held.is_asked_rightly(wanted):
            status = ChunkStatus(image=wanted.image, status="gone")
            return [_chunk(site, STATUS, ota_messages.encode(status))]
        answers = [_chunk(site, *one) for one in held.answer(wanted, later_s=LATER_S)]
        self.served += sum(not one.topic.endswith(STATUS) for one in answers)
        return answers

    async def status(self, image: str) -> dict[str, object]:
        """Say how much of an image is there."""
        release = self._find(image)
        if release is None:
            return {"known": False, "complete": False, "chunks": 0, "chunks_done": 0, "missing": []}
        held = await self._hold(release)
        complete = held.complete and await self._is_whole(held)
        return {
            "known": True,
            "complete": complete,
            "chunks": release.chunks.count,
            "chunks_done": held.done,
            "missing": list(held.missing(_MISSING_MAX)),
        }

    async def read(self, release: Release, offset: int, size: int) -> bytes | None:
        """Return a part of an image; None while it is not whole."""
        held = await self._hold(release)
        if not held.complete or not await self._is_whole(held):
            return None
        chunk = release.chunks.chunk_bytes
        pieces = []
        for number in range(
            offset // chunk, -(-min(offset + size, release.chunks.image_bytes) // chunk)
        ):
            data = held.get(number)
            if data is None:
                return None
            pieces.append(data)
        start = offset % chunk
        return b"".join(pieces)[start : start + size]

    def close(self) -> None:
        """Close every file."""
        self._store.close()

    async def _hold(self, release: Release) -> HeldImage:
        async with self._opening:  # what is there is hashed: in a thread, and once
            return await asyncio.to_thread(self._store.hold, release, keep=self._keep)

    async def _is_whole(self, held: HeldImage) -> bool:
        image = held.release.image
        if image not in self._whole and await asyncio.to_thread(held.is_whole):
            self._whole.add(image)
        return image in self._whole


def _chunk(site: str, name: str, payload: bytes) -> Message:
    return Message(topic=topics.build(CHUNK_PATTERN, site, GATEWAY_IMAGES, name), payload=payload)
