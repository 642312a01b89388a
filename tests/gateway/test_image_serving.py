"""Serving an image in a building: to each alone, or once to all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.gateway.image_serving import AGAIN_S, ImageServing
from plantroom.wire.image_store import HeldImage, ImageStore
from plantroom.wire.ota_messages import Get
from tests.fakes.ota_author import Author

IMAGE = bytes(range(256)) * 1000
RELEASE = Author().release(image=IMAGE)
SIZE, COUNT = RELEASE.chunks.chunk_bytes, RELEASE.chunks.count


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldImage]:
    store = ImageStore(tmp_path, bytes_max=1 << 20)
    made = store.hold(RELEASE)
    for number in range(COUNT):
        assert made.put(number, IMAGE[number * SIZE : (number + 1) * SIZE])
    yield made
    store.close()


def serving(held: HeldImage, *, bytes_per_s: float = 1e9) -> ImageServing:
    return ImageServing(held, site="b", broadcast_from=3, bytes_per_s=bytes_per_s)


def get(*wanted: int) -> Get:
    return Get(image=RELEASE.image_digest, chunk_bytes=SIZE, wanted=wanted)


def test_a_few_devices_get_their_chunks_each_alone(held: HeldImage) -> None:
    made = serving(held)
    assert [one.topic for one in made.answer("d1", get(0, 5), 0.0)] == [
        "v1/b/ota/d1/chunk/0",
        "v1/b/ota/d1/chunk/5",
    ]
    assert len(list(made.answer("d2", get(0), 0.0))) == 1
    assert not made.broadcasting
    assert not list(made.due(1.0))


def test_many_devices_get_it_once_together(held: HeldImage) -> None:
    made = serving(held)
    for name in ("d1", "d2"):
        assert list(made.answer(name, get(0), 0.0))
    assert not list(made.answer("d3", get(0), 0.0)), "it comes with the broadcast"
    sent = list(made.due(0.0))
    assert [one.topic for one in sent] == [
        f"v1/b/fw/{RELEASE.image}/{number}" for number in range(COUNT)
    ]
    assert {one.qos for one in sent} == {0}
    assert b"".join(one.payload for one in sent) == IMAGE
    assert not made.broadcasting


def test_repairs_go_to_each_alone_for_a_while(held: HeldImage) -> None:
    made = serving(held)
    for name in ("d1", "d2", "d3"):
        list(made.answer(name, get(0), 0.0))
    list(made.due(0.0))
    for name in ("d1", "d2", "d3", "d4"):
        assert len(list(made.answer(name, get(3), 1.0))) == 1
    assert not made.broadcasting
    for name in ("d5", "d6", "d7"):
        list(made.answer(name, get(0), 1.0 + AGAIN_S))
    assert made.broadcasting


def test_a_broadcast_keeps_its_pace_and_answers_what_it_has_passed(held: HeldImage) -> None:
    made = serving(held, bytes_per_s=SIZE * 10.0)
    for name in ("d1", "d2", "d3"):
        list(made.answer(name, get(0), 0.0))
    first = len(list(made.due(0.0)))
    assert first <= 2
    later = len(list(made.due(0.35)))
    assert 2 <= later <= 4
    passed = first + later
    answers = list(made.answer("d4", get(0, passed + 1), 0.35))
    assert [one.topic for one in answers] == ["v1/b/ota/d4/chunk/0"]


def test_an_image_that_is_not_whole_is_not_broadcast(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, bytes_max=1 << 20)
    made = serving(store.hold(RELEASE))
    for name in ("d1", "d2", "d3", "d4"):
        (answer,) = made.answer(name, get(0), 0.0)
        assert answer.topic.endswith("/chunk/status")
    assert not made.broadcasting
    store.close()


def test_a_chunk_that_rots_ends_the_broadcast(held: HeldImage, tmp_path: Path) -> None:
    made = serving(held)
    for name in ("d1", "d2", "d3"):
        list(made.answer(name, get(0), 0.0))
    with (tmp_path / RELEASE.image).open("r+b") as file:
        file.seek(2 * SIZE)
        file.write(b"rot")
    assert len(list(made.due(0.0))) == 2
    assert not made.broadcasting
    assert held.missing(1) == (2,)
