"""Every table of a gateway that has stopped, one change at a time: who and which range is named."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from plantroom.broker import segments
from plantroom.gateway import verifying
from plantroom.gateway.verifying_books import Segments
from plantroom.gateway.verifying_notes import GATEWAY, Found
from tests.fakes.building_at_rest import build
from tests.fakes.gateway_rig import device

SEGMENTS = Segments(segments.arrivals, segments.left_of)
ONE = " WHERE device LIKE '%hvac-001' AND epoch = 8"
BOOK = f"book = (SELECT id FROM book{ONE})"
LATEST = "(SELECT max(id) FROM segment)"
FLIPPED = "CAST(substr(data, 1, 300) || x'00' || substr(data, 302) AS BLOB)"


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Open the file of a gateway with about 500 readings."""
    path = build(tmp_path_factory.mktemp("gateway"), size=120).queue
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def changed(queue: sqlite3.Connection, change: str) -> list[Found]:
    """Say what is found after a change, and take it back."""
    queue.execute("PRAGMA foreign_keys=OFF")
    queue.execute("BEGIN")
    try:
        assert queue.execute(change).rowcount > 0
        return list(verifying.altered(queue, SEGMENTS))
    finally:
        queue.execute("ROLLBACK")


def test_nothing_is_named_where_nothing_was_changed(queue: sqlite3.Connection) -> None:
    assert list(verifying.altered(queue, SEGMENTS)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (f"UPDATE book SET highest = highest + 1{ONE}", (8, 179, 180)),
        (f"UPDATE book SET highest = highest - 1{ONE}", (8, 179, 179)),
        (f"UPDATE book SET own = 1{ONE}", (8, 179, 179)),
        (f"UPDATE book SET seal = seal + 1{ONE}", (8, 179, 179)),
        (f"UPDATE book SET id = 99{ONE}", (8, 0, 179)),
        (f"DELETE FROM book{ONE}", (8, 40, 179)),
        (f"UPDATE span SET first = 50 WHERE {BOOK} AND kind = 0", (8, 40, 49)),
        (f"UPDATE span SET first = 200 WHERE {BOOK} AND kind = 0", (8, 0, 179)),
        (f"UPDATE span SET last = 170 WHERE {BOOK} AND kind = 0", (8, 171, 179)),
        (f"UPDATE span SET last = 'x' WHERE {BOOK} AND kind = 0", (8, 0, 179)),
        (f"UPDATE span SET kind = 9 WHERE {BOOK} AND kind = 2", (8, 0, 39)),
        (f"UPDATE span SET reason = 'x' WHERE {BOOK} AND kind = 0", (8, 0, 179)),
        (f"DELETE FROM span WHERE {BOOK} AND kind = 0", (8, 40, 179)),
        (f"DELETE FROM span WHERE {BOOK} AND kind = 1", (8, 40, 99)),
        (f"DELETE FROM digest WHERE {BOOK}", (8, 0, 179)),
        (f"UPDATE digest SET total = zeroblob(32) WHERE {BOOK}", (8, 0, 179)),
        (f"UPDATE reading SET book = 77 WHERE {BOOK} AND seq = 150", (8, 150, 150)),
        (f"UPDATE reading SET state = 2 WHERE {BOOK} AND seq = 150", (8, 150, 150)),
        (f"UPDATE reading SET body = hash WHERE {BOOK} AND seq = 160", (8, 160, 160)),
        (f"DELETE FROM reading WHERE {BOOK} AND seq = 60", (8, 60, 60)),
        (f"UPDATE segment SET tapped = 0 WHERE id = {LATEST}", (8, 190, 199)),
        (f"UPDATE segment SET data = {FLIPPED} WHERE id = {LATEST}", (8, 190, 199)),
        ("UPDATE tap SET segment = segment + 1", (8, 180, 180)),
    ],
)
def test_a_change_in_books_rows_and_segments_is_named_by_its_range(
    queue: sqlite3.Connection, change: str, named: tuple[int, int, int]
) -> None:
    found = changed(queue, change)
    assert (device("hvac-001"), *named) in {each[:4] for each in found}
    assert all(each.what.startswith("altered: ") for each in found)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE depth SET readings = readings + 1 WHERE state = 0",
        "UPDATE depth SET bytes = bytes - 1 WHERE state = 2",
        "DELETE FROM depth WHERE state = 1",
        "UPDATE meta SET name = 'x' || name WHERE name = 'running_us'",
        "UPDATE meta SET value = 0 WHERE name = 'note_number'",
        "UPDATE tap SET segment = 9999",
        "DELETE FROM tap",
    ],
)
def test_a_counter_that_does_not_count_what_is_there_is_the_gateways(
    queue: sqlite3.Connection, change: str
) -> None:
    assert GATEWAY in {each.device for each in changed(queue, change)}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE numbering SET next = next + 1",
        "UPDATE numbering SET epoch = epoch + 1",
        "DELETE FROM numbering",
    ],
)
def test_the_next_number_of_a_third_partys_device_follows_its_last(
    queue: sqlite3.Connection, change: str
) -> None:
    assert device("meter-001") in {each.device for each in changed(queue, change)}


def test_a_book_of_a_former_version_has_no_seal(queue: sqlite3.Connection) -> None:
    assert changed(queue, "UPDATE book SET seal = NULL") == []


def test_a_file_of_a_former_version_is_read_before_it_is_brought_up_to_date(
    queue: sqlite3.Connection,
) -> None:
    queue.execute("BEGIN")
    for table in ("book", "quarantine"):
        queue.execute(f"ALTER TABLE {table} DROP COLUMN seal")
    found = list(verifying.altered(queue, SEGMENTS))
    queue.execute("ROLLBACK")
    assert found == []


def test_what_was_derived_is_not_missed_and_what_a_swept_segment_held_neither(
    queue: sqlite3.Connection,
) -> None:
    assert changed(queue, "DELETE FROM segment WHERE id < 5") == []
    assert changed(queue, "UPDATE tap SET segment = segment - 2") == []
