"""Asking the cloud for an image: a window, patience that grows, and never giving up."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from plantroom.gateway.image_fetch import GONE_S, WINDOW, ImageFetch
from plantroom.wire.image_store import HeldImage, ImageStore
from plantroom.wire.ota_messages import ChunkStatus
from tests.fakes.ota_author import Author

IMAGE = bytes(range(256)) * 1000
RELEASE = Author().release(image=IMAGE)
SIZE = RELEASE.chunks.chunk_bytes


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldImage]:
    store = ImageStore(tmp_path, bytes_max=1 << 20)
    yield store.hold(RELEASE)
    store.close()


def data(number: int) -> bytes:
    return IMAGE[number * SIZE : (number + 1) * SIZE]


def test_a_window_of_chunks_is_asked_for_until_all_are_there(held: HeldImage) -> None:
    fetch = ImageFetch(held, 0.0)
    asked: list[int] = []
    while (request := fetch.next(0.0)) is not None:
        assert len(request.wanted) <= WINDOW
        for number in request.wanted:
            asked.append(number)
            assert fetch.receive(number, data(number), 0.0)
    assert asked == list(range(RELEASE.chunks.count))
    assert held.is_whole()


def test_what_does_not_come_is_asked_for_again_less_and_less_often(held: HeldImage) -> None:
    fetch = ImageFetch(held, 0.0)
    asked_at = [second for second in range(1000) if fetch.next(float(second)) is not None]
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert gaps[:5] == [5, 10, 20, 40, 60]
    assert set(gaps[5:]) == {60}


def test_a_wrong_chunk_is_not_taken_and_asked_for_again(held: HeldImage) -> None:
    fetch = ImageFetch(held, 0.0)
    request = fetch.next(0.0)
    assert request is not None
    for number in request.wanted:
        assert fetch.receive(number, data(number) if number else b"evil", 0.0) is bool(number)
    again = fetch.next(0.0)
    assert again is not None
    assert again.wanted[0] == 0


def test_the_cloud_may_say_later_or_no(held: HeldImage) -> None:
    fetch = ImageFetch(held, 0.0)
    assert fetch.next(0.0)
    fetch.told(ChunkStatus(image=bytes(32), status="gone"), 0.0)
    assert not fetch.answer, "that was about another image"
    fetch.told(ChunkStatus(image=RELEASE.image_digest, status="later", retry_s=7.0), 0.0)
    assert fetch.next(6.9) is None
    assert fetch.next(7.0) is not None
    fetch.told(ChunkStatus(image=RELEASE.image_digest, status="gone"), 7.0)
    assert str(fetch.answer) == "gone"
    assert fetch.next(7.0 + GONE_S - 1) is None
    assert fetch.next(7.0 + GONE_S) is not None


def test_a_lost_connection_costs_no_patience(held: HeldImage) -> None:
    fetch = ImageFetch(held, 0.0)
    assert fetch.next(0.0)
    assert fetch.next(1.0) is None
    fetch.lost()
    assert fetch.next(1.0)
