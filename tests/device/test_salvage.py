"""A damaged outbox: position and whole readings are in the next one, and nothing is altered."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from plantroom.device.driver import Taken
from plantroom.device.outbox import MIGRATIONS
from plantroom.device.ring import SENT
from plantroom.device.salvage import bring_back
from plantroom.wire.sqlite import set_aside
from tests.device.stand_ins import open_outbox, sample

COUNT, ACKNOWLEDGED = 600, 500


def filled(path: Path) -> int:
    """Keep readings of which most are acknowledged; return their epoch."""
    outbox = open_outbox(path)
    for first in range(0, COUNT, 100):
        some = range(first, first + 100)
        outbox.append([Taken(sample=sample(n), position=f"row {n + 1}") for n in some])
    while taken := outbox.take(100, 1_000_000):
        if taken[0].seq >= ACKNOWLEDGED:
            break
        outbox.sent(taken)
    outbox.close()
    return outbox.epoch


def brought_back(path: Path) -> int:
    return bring_back(set_aside(path, "1"), path, MIGRATIONS)


def test_of_a_whole_file_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    epoch = filled(path)
    assert brought_back(path) == COUNT
    with closing(open_outbox(path)) as fresh:
        assert fresh.epoch > epoch
        assert fresh.position == f"row {COUNT}"
        assert fresh.counts.unsent == COUNT - ACKNOWLEDGED
        assert fresh.counts.sent == ACKNOWLEDGED
        assert fresh.heads()[epoch] == COUNT - 1
        waiting = fresh.take(1000, 1_000_000)
        assert [reading.seq for reading in waiting] == list(range(ACKNOWLEDGED, COUNT))
        assert [reading.points[0].value for reading in waiting] == list(range(ACKNOWLEDGED, COUNT))


@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
def test_of_a_damaged_file_the_rest_comes_back_unaltered(tmp_path: Path, share: float) -> None:
    path = tmp_path / "o.db"
    epoch = filled(path)
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share))
        file.write(b"\xa5" * 9000)
    count = brought_back(path)
    assert COUNT / 2 < count < COUNT
    with closing(sqlite3.connect(path)) as fresh:
        assert fresh.execute("SELECT count(*) FROM reading WHERE state = ?", (SENT,)).fetchone()
    with closing(open_outbox(path, readings_max=2 * COUNT)) as fresh:
        assert fresh.heads()[epoch] == COUNT - 1  # what is missing can be asked for, and is named
        fresh.resend(epoch, [(0, COUNT - 1)])
        back = {reading.seq: reading.points[0].value for reading in fresh.waiting(COUNT)}
        assert len(back) == count
        assert all(seq == value for seq, value in back.items())


def test_a_reading_or_position_whose_checksum_is_wrong_stays_behind(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path)
    with closing(sqlite3.connect(path)) as damaged, damaged:
        damaged.execute("UPDATE reading SET pack = zeroblob(40) WHERE seq = 550")
        damaged.execute("UPDATE reading SET crc = NULL WHERE seq = 551")
        damaged.execute("UPDATE meta SET value = 'row 7' WHERE key = 'position'")
        damaged.execute("INSERT INTO epoch VALUES(?, ?, 0)", (2**52, 2**52))
    assert brought_back(path) == COUNT - 2
    with closing(open_outbox(path)) as fresh:
        assert fresh.position is None
        seqs = {reading.seq for reading in fresh.waiting(COUNT)}
        assert seqs == {*range(ACKNOWLEDGED, COUNT)} - {550, 551}
        assert 2**52 not in fresh.heads()


def test_what_is_no_database_gives_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    path.write_bytes(b"no database at all" * 1000)
    assert brought_back(path) == 0
    with closing(open_outbox(path)) as fresh:
        assert (fresh.counts.held, fresh.position) == (0, None)
