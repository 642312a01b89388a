"""Whoever serves images may be slow, silent, poisoned or lying: what a device does about it."""

import dataclasses
from collections.abc import Iterable

import pytest

from plantroom.device.updater_download import Patience
from plantroom.wire import firmware, ota_messages, topics
from plantroom.wire.ota_messages import ChunkStatus, Get
from tests.fakes import ota_author
from tests.fakes.ota_author import IMAGE, Author
from tests.fakes.ota_device import HEAD_TOPIC, SITE, SimDevice, serving

LARGE = bytes(range(256)) * 2560  # 40 chunks of 16 KiB


@pytest.fixture
def device() -> SimDevice:
    made = SimDevice(serve=serving(IMAGE, LARGE))
    made.boot()
    return made


def settle(device: SimDevice, rounds: int = 20) -> None:
    device.run(lambda: False, rounds_max=rounds)


def test_a_bad_chunk_is_asked_for_again_alone(device: SimDevice) -> None:
    genuine = serving(LARGE)
    spoilt: list[str] = []

    def serve(get: Get) -> Iterable[tuple[str, bytes]]:
        for number, data in genuine(get):
            if number == "7" and not spoilt:
                spoilt.append(number)
                yield number, data[:-1] + bytes([data[-1] ^ 1])
            else:
                yield number, data

    device.serve = serve
    device.release(device.author.manifest(image=LARGE))
    assert device.run(lambda: device.state == "UPDATED")
    asked = [number for get in device.asked for number in get.wanted]
    assert sorted(asked) == sorted([*range(40), 7])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data * 2,
        lambda _data: b"",
        lambda data: bytes(len(data)),
    ],
)
def test_truncated_padded_endless_and_poisoned_chunks_end_in_a_failure(
    device: SimDevice, spoil: object
) -> None:
    genuine = serving(IMAGE)
    device.serve = lambda get: [(n, spoil(data)) for n, data in genuine(get)]  # type: ignore[operator]
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "FAILED(download)")
    asked = len(device.asked)
    settle(device, 100)
    assert len(device.asked) == asked
    device.serve = genuine
    device.publish(HEAD_TOPIC, device.author.head(2, [device.author.manifest()]))
    assert device.run(lambda: device.state == "UPDATED")  # named anew, it is tried anew


def test_a_server_that_is_silent_ends_in_a_failure_that_is_tried_again_later(
    device: SimDevice,
) -> None:
    device.patience = Patience(failures_max=3)
    device.serve = lambda _get: []
    device.boot()
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "FAILED(download)")
    device.serve = serving(IMAGE)
    assert device.run(lambda: device.state == "UPDATED", rounds_max=3600 * 2 + 200)


def test_what_is_gone_is_not_asked_for_again(device: SimDevice) -> None:
    gone = ChunkStatus(image=ota_author.digest(IMAGE), status="gone")
    device.serve = lambda _get: [("status", ota_messages.encode(gone))]
    device.release(device.author.manifest())
    assert device.run(lambda: device.state == "FAILED(gone)")
    settle(device, 100)
    assert len(device.asked) == 1


def test_a_gateway_that_has_not_got_it_yet_is_waited_for_at_no_cost(device: SimDevice) -> None:
    later = ChunkStatus(image=ota_author.digest(IMAGE), status="later", retry_s=5)
    device.patience = Patience(failures_max=2)
    device.serve = lambda _get: [("status", ota_messages.encode(later))]
    device.boot()
    device.release(device.author.manifest())
    assert device.run(lambda: len(device.asked) > 20)
    assert device.state == "WAITING(server)"
    device.serve = serving(IMAGE)
    assert device.run(lambda: device.state == "UPDATED")


def test_a_full_disk_is_a_state(device: SimDevice) -> None:
    device.storage.room = 100
    device.release(device.author.manifest())
    settle(device)
    assert device.state == "FAILED(disk-full)"
    assert not device.asked
    device.storage.room = None
    device.publish(HEAD_TOPIC, device.author.head(2, [device.author.manifest()]))
    assert device.run(lambda: device.state == "UPDATED")


def test_an_image_whose_whole_is_not_what_was_signed_is_condemned() -> None:
    author = Author()
    made = author.release()
    lying = dataclasses.replace(made, image_digest=ota_author.digest(b"another"))
    manifest = firmware.build(lying, author.authors)

    def serve(get: Get) -> Iterable[tuple[str, bytes]]:
        return serving(IMAGE)(dataclasses.replace(get, image=ota_author.digest(IMAGE)))

    device = SimDevice(author=author, serve=serve)
    device.boot()
    device.release(manifest)
    assert device.run(lambda: device.state == "FAILED(image-digest)")
    device.publish(HEAD_TOPIC, author.head(2, [manifest]))
    settle(device)
    assert device.state == "REJECTED(known-bad)"


def test_chunks_of_the_broadcast_are_taken_and_only_the_missing_asked_for(
    device: SimDevice,
) -> None:
    """The gateway answers the first request by sending the image to everybody, with a hole."""

    def serve(get: Get) -> Iterable[tuple[str, bytes]]:
        if len(device.asked) > 1:
            yield from serving(LARGE)(get)
            return
        image = ota_author.digest(LARGE).hex()
        for number in range(40):
            if number not in {11, 30}:
                topic = topics.build("fw/{digest}/{n}", SITE, image, str(number))
                at = number * 16384
                device.deliver(topic, LARGE[at : at + 16384])

    device.serve = serve
    device.release(device.author.manifest(image=LARGE))
    assert device.updater.broadcast is None
    device.step()
    assert device.updater.broadcast == f"v1/{SITE}/fw/{ota_author.digest(LARGE).hex()}/+"
    assert device.run(lambda: device.state == "UPDATED")
    assert [get.wanted for get in device.asked[1:]] == [(11, 30)]
