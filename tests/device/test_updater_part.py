import io

import pytest

from plantroom.device import updater_part
from plantroom.device.updater_part import MAP_FILE, PART_FILE, Part
from plantroom.wire import firmware
from plantroom.wire.errors import StorageFullError
from plantroom.wire.firmware import Release
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import SimStorage

IMAGE = bytes(range(200)) * 200  # 40 chunks of 1000 and a bit


def release() -> Release:
    digest, chunks = firmware.cut(io.BytesIO(IMAGE), 1024)
    return Author().release(image_digest=digest, chunks=chunks)


def chunk(number: int) -> bytes:
    return IMAGE[number * 1024 : (number + 1) * 1024]


def test_chunks_in_any_order_make_the_image() -> None:
    storage, made = SimStorage(), release()
    part = Part(storage, made)
    for number in reversed(range(made.chunks.count)):
        assert not part.complete
        assert part.put(number, chunk(number))
    assert part.complete
    assert storage.durable[PART_FILE] == IMAGE


def test_a_wrong_chunk_is_not_taken() -> None:
    part = Part(SimStorage(), release())
    assert not part.put(3, chunk(4))
    assert not part.put(3, chunk(3) + b"x")
    assert not part.put(-1, chunk(0))
    assert not part.put(9999, chunk(0))
    assert part.done == 0


def test_a_chunk_twice_is_one() -> None:
    part = Part(SimStorage(), release())
    assert part.put(3, chunk(3))
    assert part.put(3, chunk(3))
    assert part.done == 1
    assert part.missing(3, {0}) == (1, 2, 4)


def test_after_a_power_cut_what_was_saved_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, made = SimStorage(), release()
    part = Part(storage, made)
    monkeypatch.setattr(updater_part, "SAVE_EVERY", 16)
    for number in range(19):
        part.put(number, chunk(number))
    storage.cut()
    again = Part(storage, made)
    assert again.resumed
    assert again.done >= 16
    assert all(again.has(number) for number in range(16))


def test_the_map_is_believed_only_as_far_as_the_bytes_are_right() -> None:
    storage, made = SimStorage(), release()
    part = Part(storage, made)
    for number in range(5):
        part.put(number, chunk(number))
    part.save()
    storage.durable[PART_FILE] = b"\0" * 1024 + storage.durable[PART_FILE][1024:]
    again = Part(storage, made)
    assert again.done == 4
    assert not again.has(0)


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xa0", b"\xff" * 70_000])
def test_a_damaged_map_begins_anew(data: bytes) -> None:
    storage, made = SimStorage(), release()
    part = Part(storage, made)
    part.put(0, chunk(0))
    part.save()
    storage.durable[MAP_FILE] = data
    assert Part(storage, made).done == 0


def test_another_releases_part_is_not_taken_up() -> None:
    storage = SimStorage()
    part = Part(storage, release())
    part.put(0, chunk(0))
    part.save()
    assert Part(storage, Author().release()).done == 0


def test_what_rots_behind_our_back_is_found() -> None:
    storage, made = SimStorage(), release()
    part = Part(storage, made)
    for number in range(3):
        part.put(number, chunk(number))
    storage.write(PART_FILE, 1024, b"\0\0\0")
    assert part.recheck() == 1
    assert part.missing(1, set()) == (1,)


def test_no_room_is_said_before_anything_is_asked_for() -> None:
    storage = SimStorage()
    storage.room = 10
    with pytest.raises(StorageFullError):
        Part(storage, release())


def test_dropped_files_are_gone() -> None:
    storage = SimStorage()
    part = Part(storage, release())
    part.save()
    part.drop()
    assert storage.durable == storage.volatile == {}
