"""What an outbox does when it is asked for readings again, or for a new epoch."""

import sqlite3
from pathlib import Path

from plantroom.device.ring import SCHEMA
from tests.device.stand_ins import open_outbox, taken


def test_what_was_sent_can_be_sent_again_and_what_is_overwritten_is_gone(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db", readings_max=5)
    outbox.sent(outbox.append(taken(*range(8))).readings)  # 0 to 2 leave tombstones: never sent
    outbox.notes_sent(outbox.notes())
    assert outbox.take(10, 10**6) == ()
    assert outbox.resend(outbox.epoch, [(1, 4), (7, 90)]) == {"again": 3, "gone": 2}
    assert [r.seq for r in outbox.take(10, 10**6)] == [3, 4]
    [gone] = outbox.notes()
    assert (gone.kind, gone.first, gone.last, gone.reason) == ("gone", 1, 2, "media")
    assert outbox.resend(outbox.epoch, [(1, 4)]) == {"again": 0, "gone": 0}  # is being said
    outbox.close()
    again = open_outbox(tmp_path / "o.db", readings_max=5)
    assert again.notes() == (gone,)
    assert again.counts.unsent == 3
    again.close()


def test_an_epoch_that_this_image_has_never_known_is_gone(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    assert outbox.resend(77, [(0, 9)]) == {"again": 0, "gone": 10}
    [gone] = outbox.notes()
    assert (gone.epoch, gone.life, gone.first, gone.last) == (77, outbox.epoch, 0, 9)
    outbox.close()


def test_a_reused_epoch_is_left_once_for_a_new_one(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "o.db")
    first = outbox.epoch
    outbox.append(taken(1, 2))
    assert outbox.renew_epoch(first - 1) == first  # of another life
    second = outbox.renew_epoch(first)
    assert second > first
    assert outbox.renew_epoch(first) == second == outbox.epoch
    [reading] = outbox.append(taken(3)).readings
    assert (reading.epoch, reading.seq) == (second, 0)
    assert outbox.heads() == {first: 1, second: 0}
    outbox.resend(first, [(0, 5)])
    [gone] = outbox.notes()
    assert (gone.life, gone.epoch, gone.first) == (second, first, 2)
    outbox.close()


def test_an_outbox_of_the_first_schema_goes_on(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "o.db")
    old.executescript(
        f"{SCHEMA} CREATE TABLE schema_version(part TEXT PRIMARY KEY, version INTEGER NOT NULL);"
        "INSERT INTO schema_version VALUES('outbox', 1);"
        "INSERT INTO epoch VALUES(5, 9, 1); INSERT INTO note VALUES(5, 0, 5, 2, 3, 'full', 1);"
    )
    old.close()
    outbox = open_outbox(tmp_path / "o.db")
    [note] = outbox.notes()
    assert (note.kind, note.first, note.last) == ("evicted", 2, 3)
    outbox.close()
