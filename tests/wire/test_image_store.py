"""Images on the disk: only what was signed goes in, and only that comes out."""

from pathlib import Path

import pytest

from plantroom.wire import ota_messages
from plantroom.wire.errors import StorageError, StorageFullError
from plantroom.wire.firmware import Release
from plantroom.wire.image_store import HeldImage, ImageStore
from plantroom.wire.ota_messages import ChunkStatus, Get
from tests.fakes.ota_author import IMAGE, Author


def release(image: bytes = IMAGE) -> Release:
    return Author().release(image=image)


def pieces(made: Release, image: bytes = IMAGE) -> list[bytes]:
    size = made.chunks.chunk_bytes
    return [image[at : at + size] for at in range(0, len(image), size)]


def fill(held: HeldImage, image: bytes = IMAGE) -> None:
    for number, data in enumerate(pieces(held.release, image)):
        assert held.put(number, data)


def test_chunks_come_back_and_the_whole_is_judged(tmp_path: Path) -> None:
    made = release()
    store = ImageStore(tmp_path / "images", bytes_max=1 << 20)
    held = store.hold(made)
    assert held.missing(3) == (0, 1, 2)
    assert held.missing(2, {0}) == (1, 2)
    assert not held.is_whole()
    fill(held)
    assert held.complete
    assert held.is_whole()
    assert b"".join(held.get(number) or b"" for number in range(made.chunks.count)) == IMAGE
    assert held.get(made.chunks.count) is None
    assert held.get(-1) is None
    assert store.hold(made) is held
    store.close()


def test_what_was_not_signed_is_not_taken(tmp_path: Path) -> None:
    held = ImageStore(tmp_path, bytes_max=1 << 20).hold(release())
    good = pieces(held.release)
    assert not held.put(0, good[1])
    assert not held.put(0, good[0] + b"x")
    assert not held.put(len(good), good[0])
    assert not held.put(-1, good[-1])
    assert held.done == 0
    held.close()


def test_what_an_earlier_life_left_is_believed_by_its_digests_alone(tmp_path: Path) -> None:
    made = release()
    store = ImageStore(tmp_path, bytes_max=1 << 20)
    fill(store.hold(made))
    store.close()
    path = tmp_path / made.image
    data = bytearray(path.read_bytes())
    data[made.chunks.chunk_bytes + 5] ^= 1
    path.write_bytes(data[: -made.chunks.length(made.chunks.count - 1)])
    again = ImageStore(tmp_path, bytes_max=1 << 20).hold(made)
    assert again.missing(9) == (1, made.chunks.count - 1)
    fill(again)
    assert again.is_whole()
    again.close()


def test_a_cache_that_is_poisoned_while_it_is_served_is_noticed(tmp_path: Path) -> None:
    made = release()
    held = ImageStore(tmp_path, bytes_max=1 << 20).hold(made)
    fill(held)
    with (tmp_path / made.image).open("r+b") as file:
        file.write(b"evil")
    wanted = Get(image=made.image_digest, chunk_bytes=made.chunks.chunk_bytes, wanted=(0, 1))
    answers = dict(held.answer(wanted, later_s=2.0))
    assert answers["1"] == pieces(made)[1]
    assert "0" not in answers
    status = ota_messages.decode(answers["status"], ChunkStatus)
    assert (status.status, status.retry_s) == ("later", 2.0)
    assert held.missing(9) == (0,)
    held.close()


def test_a_request_has_to_fit_the_image(tmp_path: Path) -> None:
    made = release()
    held = ImageStore(tmp_path, bytes_max=1 << 20).hold(made)
    size, count = made.chunks.chunk_bytes, made.chunks.count
    right = Get(image=made.image_digest, chunk_bytes=size, wanted=(count - 1,))
    assert held.is_asked_rightly(right)
    for wrong in (
        Get(image=bytes(32), chunk_bytes=size, wanted=(0,)),
        Get(image=made.image_digest, chunk_bytes=size * 2, wanted=(0,)),
        Get(image=made.image_digest, chunk_bytes=size, wanted=(count,)),
    ):
        assert not held.is_asked_rightly(wrong)
    held.close()


def test_the_oldest_makes_room_unless_it_is_kept(tmp_path: Path) -> None:
    first, second = release(), release(b"2" * len(IMAGE))
    store = ImageStore(tmp_path, bytes_max=len(IMAGE) + 100)
    fill(store.hold(first))
    with pytest.raises(StorageFullError, match="no room"):
        store.hold(second, keep=lambda image: image == first.image)
    assert store.bytes_held == len(IMAGE)
    fill(store.hold(second), b"2" * len(IMAGE))
    assert [path.name for path in tmp_path.iterdir()] == [second.image]
    store.close()


def test_another_cut_of_the_same_image_uses_the_bytes_that_are_there(tmp_path: Path) -> None:
    made = release()
    store = ImageStore(tmp_path, bytes_max=1 << 20)
    fill(store.hold(made))
    from io import BytesIO

    from plantroom.wire import firmware

    digest, chunks = firmware.cut(BytesIO(IMAGE), 4096)
    other = Author().release(image_digest=digest, chunks=chunks)
    assert store.hold(other).complete
    store.close()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="images cannot be kept"):
        ImageStore(tmp_path / "file" / "images", bytes_max=1)
