"""Notes, the excuses that they give, and quarantine, of a gateway that has stopped."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from plantroom.gateway import verifying, verifying_notes
from plantroom.gateway.verifying_notes import GATEWAY
from tests.fakes.building_at_rest import build
from tests.fakes.gateway_rig import device
from tests.gateway.test_verifying_books import changed

SIZE = 120


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = build(tmp_path_factory.mktemp("gateway"), size=SIZE).queue
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE note SET author = 'gatewax' WHERE author = 'gateway'", (8, 0, 39)),
        ("UPDATE note SET life = life + 1", (8, 0, 39)),
        ("UPDATE note SET number = number + 9", (7, SIZE + 5, SIZE + 9)),
        ("UPDATE note SET device = device || 'x'", (7, SIZE + 5, SIZE + 9)),
        ("UPDATE note SET hash = zeroblob(32)", (8, 0, 39)),
        ("UPDATE note SET body = zeroblob(9)", (8, 0, 39)),
        ("DELETE FROM note", (8, 0, 39)),
        ("UPDATE span SET last = last - 1 WHERE kind = 2", (8, 39, 39)),
        ("UPDATE span SET last = last + 1 WHERE kind = 2", (8, 40, 40)),
        ("UPDATE span SET reason = 'x' WHERE kind = 3", (7, SIZE, SIZE + 4)),
        ("UPDATE span SET kind = 3 WHERE kind = 4", (7, SIZE + 12, SIZE + 13)),
        ("DELETE FROM span WHERE kind = 3", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET raw = x'00'", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET raw = NULL", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET reason = 'other'", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET text = 'other'", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET last = last + 1", (7, SIZE, SIZE + 5)),
        ("UPDATE quarantine SET epoch = 6", (6, SIZE, SIZE + 4)),
        ("DELETE FROM quarantine", (7, SIZE, SIZE + 4)),
        ("UPDATE apart SET items = items + 1", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET at_us = at_us + 1", (7, SIZE, SIZE + 4)),
        ("UPDATE quarantine SET outcome = 'replayed'", (7, SIZE, SIZE + 4)),
    ],
)
def test_a_change_is_named_by_its_range(
    queue: sqlite3.Connection, change: str, named: tuple[int, int, int]
) -> None:
    assert named in {each[1:4] for each in changed(queue, change)}


def test_what_a_quarantine_no_longer_holds_is_counted(queue: sqlite3.Connection) -> None:
    assert GATEWAY in {each.device for each in changed(queue, "DELETE FROM quarantine")}


def test_notes_that_were_told_long_ago_are_not_missed(queue: sqlite3.Connection) -> None:
    queue.execute("BEGIN")
    queue.execute("UPDATE sqlite_sequence SET seq = 99999 WHERE name = 'note'")
    queue.execute("DELETE FROM note WHERE author = 'sensor'")
    assert list(verifying.altered(queue)) == []
    assert not verifying_notes.load(queue).whole
    queue.execute("ROLLBACK")


def test_what_a_new_store_has_not_on_record_is_not_missed(queue: sqlite3.Connection) -> None:
    """Its span goes with the former store, and so may rows that were history."""
    queue.execute("BEGIN")
    queue.execute("INSERT INTO former_store VALUES('x')")
    queue.execute("DELETE FROM span WHERE kind = 4")
    assert list(verifying.altered(queue)) == []
    queue.execute("ROLLBACK")


def test_every_note_is_known_by_its_book(queue: sqlite3.Connection) -> None:
    notes = verifying_notes.load(queue)
    assert notes.changed == []
    said = {kind: list(ranges) for kind, ranges in notes.of((device("hvac-001"), 8))}
    assert said == {"evicted": [(0, 39)]}
