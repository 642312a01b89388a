"""Tombstones, the excuses that they give, and what was set apart, in a cloud's store."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from plantroom.cloud import readback
from plantroom.cloud.verifying_notes import Notes
from tests.cloud.test_verifying_books import changed
from tests.fakes.building_at_rest import build
from tests.fakes.gateway_rig import device

SIZE = 120
ABROAD = "spiffe://building-2.smart.local/agent/hvac-009"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = build(tmp_path_factory.mktemp("cloud"), size=SIZE).store
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE note SET owner = 'building-1/x' WHERE owner LIKE '%/gateway'", (8, 0, 39)),
        ("UPDATE note SET life = life + 1", (7, SIZE + 5, SIZE + 9)),
        ("UPDATE note SET number = number + 1000", (7, SIZE + 5, SIZE + 9)),
        ("UPDATE note SET received_us = received_us + 1", (7, SIZE + 5, SIZE + 9)),
        ("UPDATE note SET hash = CAST(number + 9 AS BLOB)", (8, 0, 39)),
        ("DELETE FROM note", (8, 0, 39)),
        ("UPDATE span SET last = last - 1 WHERE kind = 2", (8, 39, 39)),
        ("UPDATE span SET last = last + 1 WHERE kind = 2", (8, 40, 40)),
        ("UPDATE span SET first = first + 1 WHERE kind = 1", (7, SIZE, SIZE)),
        ("UPDATE span SET kind = 3 WHERE kind = 1", (7, SIZE, SIZE + 4)),
        ("DELETE FROM span WHERE kind = 3", (7, SIZE + 12, SIZE + 13)),
    ],
)
def test_a_change_is_named_by_its_range(
    store: sqlite3.Connection, change: str, named: tuple[int, int, int]
) -> None:
    assert (device("hvac-001"), *named) in changed(store, change)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE quarantine SET raw = x'00'",
        "UPDATE quarantine SET raw = NULL",
        "UPDATE quarantine SET site = 'building-2'",
        "UPDATE quarantine SET reason = 'other'",
        "UPDATE quarantine SET at_us = at_us + 1",
        "UPDATE quarantine SET outcome = 'replayed', outcome_us = 1",
        "UPDATE quarantine SET hash = zeroblob(32)",
        "DELETE FROM quarantine",
        "UPDATE apart SET items = items + 1",
        "UPDATE apart SET seal = seal + 1",
    ],
)
def test_what_was_set_apart_of_no_book_is_named_as_well(
    store: sqlite3.Connection, change: str
) -> None:
    assert (ABROAD, 3, 9, 9) in changed(store, change)


def test_every_tombstone_is_known_by_its_book(store: sqlite3.Connection) -> None:
    notes = Notes(store)
    (ref,) = [ref for ref in readback.book_refs(store, [device("hvac-001")]) if ref.epoch == 7]
    assert sorted(note.kind for note in notes.applied(ref)) == [
        *("evicted", "evicted", "gone", "quarantined")
    ]
    assert notes.changed(ref) == []
    assert list(notes.strays([])) == []
