"""Rows of an outbox that somebody has changed: none is sent, and each is said to be gone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.device.stand_ins import open_outbox, taken


def changed(path: Path, change: str) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        assert other.execute(change).rowcount


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE reading SET pack = CAST(replace(pack, 'Cel', 'Cem') AS BLOB) WHERE seq = 1",
        "UPDATE reading SET pack = 'text' WHERE seq = 1",
        "UPDATE reading SET crc = crc + 1 WHERE seq = 1",
        (
            "UPDATE reading SET pack = (SELECT pack FROM reading WHERE seq = 0),"
            " crc = (SELECT crc FROM reading WHERE seq = 0) WHERE seq = 1"
        ),
    ],
)
def test_a_row_that_was_changed_is_never_sent_and_said_to_be_gone(
    tmp_path: Path, change: str
) -> None:
    said: list[str] = []
    path = tmp_path / "o.db"
    outbox = open_outbox(path)
    outbox._say = said.append
    outbox.append(taken(1, 2, 3))
    changed(path, change)
    assert [reading.seq for reading in outbox.waiting(10)] == [0, 2]
    first, second = outbox.take(10, 10_000), outbox.take(10, 10_000)
    assert [reading.seq for reading in (*first, *second)] == [0, 2]
    (note,) = outbox.notes()
    assert (note.kind, note.reason, note.epoch) == ("gone", "media", outbox.epoch)
    assert (note.first, note.last) == (1, 1)
    assert said == [f"outbox: epoch {outbox.epoch} seq 1 to 1 was changed: it is gone"]
    assert (outbox.counts.unsent, outbox.counts.held) == (2, 2)
    assert outbox.take(10, 10_000) == ()
    assert len(outbox.notes()) == 1
    outbox.close()


def test_neighbours_that_were_changed_are_one_range(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    outbox.append(taken(1, 2, 3, 4))
    changed(tmp_path / "o.db", "UPDATE reading SET crc = 0 WHERE seq IN (0, 1, 3)")
    assert [reading.seq for reading in outbox.take(10, 10_000)] == [2]
    assert [(note.first, note.last) for note in outbox.notes()] == [(0, 1), (3, 3)]
    outbox.close()


def test_a_row_without_a_checksum_is_of_a_former_version(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    outbox.append(taken(1))
    changed(tmp_path / "o.db", "UPDATE reading SET crc = NULL")
    assert [reading.seq for reading in outbox.take(10, 10_000)] == [0]
    outbox.close()


def test_a_row_in_no_state_is_sent_once_somebody_asks_for_it(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    outbox.append(taken(1))
    changed(tmp_path / "o.db", "UPDATE reading SET state = 7")
    assert outbox.take(10, 10_000) == ()
    outbox.resend(outbox.epoch, [(0, 0)])
    assert [reading.seq for reading in outbox.take(10, 10_000)] == [0]
    outbox.close()
