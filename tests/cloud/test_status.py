import json
from types import SimpleNamespace
from typing import Any

import pytest

from plantroom.cloud.status import Status, book_json
from plantroom.cloud.store import StoredBook
from plantroom.wire.ranges import RangeSet
from tests.fakes.deliveries import DEVICE


def test_book_is_json_with_its_ranges_and_holes() -> None:
    book = StoredBook(
        spiffe_id=DEVICE,
        site="building-1",
        device="hvac-001",
        epoch=2**52,
        highest=9,
        stored=RangeSet([(1, 3), (6, 6)]),
        quarantined=RangeSet([(4, 4)]),
        evicted=RangeSet([(5, 5)]),
        gone=RangeSet([(7, 7)]),
        digests={0: b"\x01" * 32},
        disputed=True,
    )
    told = json.loads(json.dumps(book_json(book)))
    assert told["ranges"] == [[1, 3], [6, 6]]
    assert told["holes"] == [[0, 0], [8, 9]]
    assert (told["first"], told["last"], told["count"]) == (1, 6, 4)
    assert (told["quarantined"], told["noted"]) == (1, 2)
    assert told["digests"] == {"0": "01" * 32}
    assert told["disputed"] is True
    assert told["epoch"] == 2**52


def test_book_without_readings_has_neither_first_nor_last() -> None:
    empty = RangeSet()
    book = StoredBook(
        spiffe_id=DEVICE,
        site="building-1",
        device="hvac-001",
        epoch=1,
        highest=-1,
        stored=empty,
        quarantined=empty,
        evicted=empty,
        gone=empty,
        digests={},
        disputed=False,
    )
    told = book_json(book)
    assert (told["first"], told["last"], told["holes"]) == (None, None, [])


@pytest.mark.parametrize(
    ("connected", "trouble", "why"),
    [
        (True, "", ""),
        (True, "no space left", "nothing is stored: no space left"),
        (False, "", "ingest is not connected: starting"),
        (False, "cut", "ingest is not connected: cut"),
    ],
)
def test_who_cannot_store_is_not_ready(*, connected: bool, trouble: str, why: str) -> None:
    parts: dict[str, Any] = dict.fromkeys(("store", "ingest", "devices", "source"))
    link: Any = SimpleNamespace(connected=connected, trouble=trouble)
    assert Status(**parts, link=link).why_not_ready() == why
