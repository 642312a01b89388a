"""Images in the cloud: what is kept of an upload, and what is given of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from plantroom.cloud.ota_images import OtaImages
from plantroom.wire.image_store import ImageStore
from plantroom.wire.ota_messages import Get
from tests.fakes.ota_author import IMAGE, Author

RELEASE = Author().release()
SIZE = RELEASE.chunks.chunk_bytes


@contextlib.asynccontextmanager
async def images(folder: Path) -> AsyncIterator[OtaImages]:
    made = OtaImages(
        ImageStore(folder, bytes_max=1 << 20),
        find=lambda image: RELEASE if image == RELEASE.image else None,
        keep=lambda _: False,
    )
    try:
        yield made
    finally:
        made.close()


async def fill(made: OtaImages) -> None:
    for number in range(RELEASE.chunks.count):
        data = IMAGE[number * SIZE : (number + 1) * SIZE]
        whole = await made.upload(RELEASE.image, str(number), data)
        assert (whole is not None) is (number == RELEASE.chunks.count - 1)


def test_the_last_chunk_makes_it_whole_and_it_is_said_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with images(tmp_path) as made:
            await fill(made)
            assert await made.upload(RELEASE.image, "0", IMAGE[:SIZE]) is None
            assert (await made.status(RELEASE.image))["complete"]

    asyncio.run(scenario())


def test_what_is_no_chunk_of_a_release_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with images(tmp_path) as made:
            for image, number in (("00" * 32, "0"), (RELEASE.image, "x"), (RELEASE.image, "9" * 9)):
                assert await made.upload(image, number, IMAGE[:SIZE]) is None
            assert made.dropped == 3

    asyncio.run(scenario())


def test_any_part_is_read_once_it_is_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with images(tmp_path) as made:
            assert await made.read(RELEASE, 0, 10) is None
            await fill(made)
            for offset, size in ((0, 10), (SIZE - 5, 10), (len(IMAGE) - 3, 100), (7, len(IMAGE))):
                assert await made.read(RELEASE, offset, size) == IMAGE[offset : offset + size]

    asyncio.run(scenario())


def test_a_request_for_another_cut_is_answered_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with images(tmp_path) as made:
            await fill(made)
            wanted = Get(image=RELEASE.image_digest, chunk_bytes=SIZE * 2, wanted=(0,))
            (status,) = await made.serve("building-1", wanted)
            assert status.topic.endswith("/chunk/status")
            assert made.served == 0

    asyncio.run(scenario())
