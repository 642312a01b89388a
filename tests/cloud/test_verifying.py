import sqlite3
from pathlib import Path

import pytest

from plantroom.cloud import book_tables, readback, verifying, verifying_books
from plantroom.cloud.store import Altered, Delivery
from plantroom.cloud.verifying_notes import Notes
from tests.fakes.deliveries import DEVICE, T0_US, delivery, note, reading
from tests.fakes.store_tables import tables


def filled() -> list[Delivery]:
    """Forty readings, some of them from before the clock was set, with every kind of note."""
    timed = [reading(seq) for seq in range(20)]
    untimed = [reading(seq, time_us=None, mono_us=seq * 1_000_000) for seq in range(20, 40)]
    notes = [
        note("evicted", 0, 40, 44, reason="full"),
        note("gone", 1, 45, 46, reason="media"),
        note("quarantined", 2, 47, 48, reason="undecodable", author="gateway", life=9),
        note("correction", 3, 0, 39, reason="clock", offset_us=T0_US),
    ]
    return [
        delivery([*timed, *untimed]),
        delivery(notes=notes, number=2),
        delivery([reading(5, temperature=99.0)], number=3),
    ]


def look(connection: sqlite3.Connection) -> list[Altered]:
    notes = Notes(connection)
    return [
        found
        for book in book_tables.stored_books(connection)
        for found in verifying.altered(connection, book, notes)
    ] + [found for _, found in verifying_books.astray(connection, notes)]


@pytest.mark.parametrize(
    ("change", "range_"),
    [
        ("UPDATE r SET value = 1.5 WHERE seq = 7 AND typeof(value) = 'real'", (0, 39)),
        ("UPDATE r SET ts = ts + 1 WHERE seq = 7", (0, 39)),
        ("DELETE FROM r WHERE seq = 7", (0, 39)),
        ("UPDATE r SET ts = ts + 1 WHERE seq = 27", (27, 27)),
        ("UPDATE mono SET mono_us = mono_us + 1 WHERE seq = 27", (27, 27)),
        ("UPDATE book SET offset_us = offset_us + 1", (0, 39)),
        ("UPDATE device SET name = 'hvac-002'", (0, 0)),
        ("UPDATE device SET site = 'building-2'", (0, 0)),
        ("UPDATE latest SET value = 3.25 WHERE typeof(value) = 'real'", (39, 39)),
        ("UPDATE latest SET ts = ts - 1", (39, 39)),
        ("UPDATE latest SET seq = 99", (99, 99)),
        ("UPDATE series SET point = 'pressure' WHERE point = 'temperature'", (0, 39)),
        ("UPDATE span SET last = last + 3 WHERE kind = 0", (40, 42)),
        ("UPDATE span SET last = last - 3 WHERE kind = 0", (37, 39)),
        ("UPDATE span SET reason = 'age' WHERE kind = 2", (40, 44)),
        ("UPDATE span SET last = 60 WHERE kind = 1", (49, 60)),
        ("UPDATE span SET kind = 2 WHERE kind = 3", (45, 46)),
        ("UPDATE digest SET total = randomblob(32)", (0, 39)),
        ("UPDATE note SET hash = zeroblob(32) WHERE number = 0", (40, 44)),
        ("UPDATE note SET body = x'00'", (0, 0)),
        ("UPDATE quarantine SET raw = CAST(hex(raw) AS BLOB)", (5, 5)),
    ],
)
def test_every_change_is_named_by_its_range(
    tmp_path: Path, change: str, range_: tuple[int, int]
) -> None:
    with tables(tmp_path) as (connection, writer):
        for each in filled():
            writer.apply(connection, [each])
        assert look(connection) == []
        assert connection.execute(change).rowcount > 0
        found = look(connection)
        assert range_ in {(first, last) for first, last, _ in found}
        assert all(what.startswith("altered: ") for *_, what in found)


def test_notes_of_a_book_are_found_by_its_device_and_epoch(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        for each in filled():
            writer.apply(connection, [each])
        (ref,) = readback.book_refs(connection, [DEVICE])
        notes = Notes(connection)
        assert sorted(each.kind for each in notes.of(ref)) == [
            *("correction", "evicted", "gone", "quarantined")
        ]
        assert notes.changed(ref) == []
