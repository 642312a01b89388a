import pytest

from plantroom.device.updater_download import ANSWER_S, Download, Patience
from plantroom.device.updater_part import Part
from plantroom.wire.ota_messages import ChunkStatus
from tests.fakes import ota_author
from tests.fakes.ota_author import Author
from tests.fakes.ota_device import SimStorage

IMAGE = bytes(range(256)) * 64 * 20  # 20 chunks
DIGEST = ota_author.digest(IMAGE)


@pytest.fixture
def download() -> Download:
    part = Part(SimStorage(), Author().release(image=IMAGE))
    return Download(part, Patience(window=8, failures_max=3), 0.0)


def wanted(download: Download, now_s: float) -> tuple[int, ...]:
    get = download.next(now_s)
    return get.wanted if get is not None else ()


def give(download: Download, *numbers: int, now_s: float = 0.0, broadcast: bool = False) -> None:
    for number in numbers:
        data = IMAGE[number * 16384 : (number + 1) * 16384]
        download.receive(number, data, now_s, broadcast=broadcast)


def test_a_window_is_kept_full_by_halves(download: Download) -> None:
    assert wanted(download, 0.0) == tuple(range(8))
    assert wanted(download, 0.0) == ()
    give(download, 0, 1, 2)
    assert wanted(download, 0.0) == ()
    give(download, 3)
    assert wanted(download, 0.0) == (8, 9, 10, 11)


def test_an_answer_that_does_not_come_costs_and_is_asked_for_again(download: Download) -> None:
    wanted(download, 0.0)
    assert wanted(download, ANSWER_S - 0.1) == ()
    assert wanted(download, ANSWER_S) == tuple(range(8))
    assert download.failures == 1
    assert wanted(download, 2 * ANSWER_S) == ()  # patience doubles
    assert wanted(download, 3 * ANSWER_S) == tuple(range(8))
    for number in range(20):
        wanted(download, 1000.0 * (number + 1))
    assert download.failure == "download"
    assert download.next(1e9) is None


def test_a_chunk_that_nobody_asked_for_costs_nothing(download: Download) -> None:
    for _ in range(100):
        download.receive(5, b"junk", 0.0)
    assert download.failures == 0
    give(download, 5)
    assert download.part.has(5)


def test_a_bad_answer_costs_and_is_repaired_alone(download: Download) -> None:
    wanted(download, 0.0)
    give(download, 0, 1, 2, 3)
    download.receive(4, b"junk", 0.0)
    assert download.failures == 1
    assert wanted(download, 0.0)[:1] == (4,)


def test_a_lost_connection_costs_nothing(download: Download) -> None:
    for _ in range(10):
        assert wanted(download, 0.0) == tuple(range(8))
        download.lost()
    assert download.failures == 0


def test_later_is_waited_for_and_gone_is_final(download: Download) -> None:
    wanted(download, 0.0)
    download.told(ChunkStatus(image=bytes(32), status="gone"), 0.0)  # another image's
    assert download.next(ANSWER_S) is not None
    download.told(ChunkStatus(image=DIGEST, status="later", retry_s=9.0), 0.0)
    assert download.waits_for_server
    assert wanted(download, 8.9) == ()
    assert wanted(download, 9.0) == tuple(range(8))
    download.told(ChunkStatus(image=DIGEST, status="later", retry_s=1e9), 10.0)
    assert wanted(download, 10.0 + 300.0) != ()  # nobody puts it off for ever
    download.told(ChunkStatus(image=DIGEST, status="gone"), 400.0)
    assert download.failure == "gone"


def test_while_a_broadcast_goes_on_it_only_listens(download: Download) -> None:
    wanted(download, 0.0)
    for number in range(10):
        give(download, number, now_s=number * 0.5, broadcast=True)
        assert wanted(download, number * 0.5) == ()
    give(download, 15, now_s=5.0, broadcast=True)
    assert wanted(download, 5.9) == ()
    assert wanted(download, 6.0) == (10, 11, 12, 13, 14, 16, 17, 18)


def test_a_complete_image_asks_for_nothing(download: Download) -> None:
    give(download, *range(20))
    assert download.part.complete
    assert download.next(0.0) is None


def test_chunks_that_the_disk_has_changed_count(download: Download) -> None:
    download.damaged(4)
    assert download.failure == "download"
