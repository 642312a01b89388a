import sqlite3
from collections.abc import Iterator

import pytest

from plantroom.device.ring import (
    NOTES_SAY_MORE,
    PARKED,
    ROWS_SAY_WHETHER_WHOLE,
    SCHEMA,
    SENT,
    UNSENT,
    Limits,
    Ring,
)
from plantroom.wire import senml
from plantroom.wire.reading import Reading
from tests.device.stand_ins import DEVICE, NOW_US, sample

EPOCH = 7


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA + NOTES_SAY_MORE + ROWS_SAY_WHETHER_WHOLE)
    connection.execute("INSERT INTO epoch VALUES(?, 0, 0)", (EPOCH,))
    yield connection
    connection.close()


def ring(db: sqlite3.Connection, **limits: int) -> Ring:
    return Ring(db, Limits(**limits), life=EPOCH)


def put(ring: Ring, seq: int, *, ran_us: int = 0, epoch: int = EPOCH) -> int:
    reading = Reading.numbered(sample(seq), epoch=epoch, seq=seq)
    pack = senml.encode((reading,))
    ring.add(reading, pack, ran_us)
    ring.make_room(NOW_US)
    return len(pack)


def held(db: sqlite3.Connection) -> list[tuple[int, int]]:
    return db.execute("SELECT seq, state FROM reading ORDER BY epoch, seq").fetchall()


def spans(ring: Ring) -> list[tuple[int, int, str]]:
    return [(note.first, note.last, note.reason) for note in ring.notes(DEVICE)]


def test_full_ring_overwrites_sent_rows_first_and_says_nothing(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=3)
    for seq in range(3):
        put(one, seq)
    one.mark([(EPOCH, 1)], SENT)
    put(one, 3)
    assert held(db) == [(0, UNSENT), (2, UNSENT), (3, UNSENT)]
    assert one.counts.notes == 0


def test_full_ring_evicts_the_oldest_and_leaves_one_growing_tombstone(
    db: sqlite3.Connection,
) -> None:
    one = ring(db, readings_max=3)
    for seq in range(8):
        put(one, seq)
    assert [seq for seq, _ in held(db)] == [5, 6, 7]
    assert one.counts.notes == 1
    assert one.counts.evicted == {"full": 5}
    (note,) = one.notes(DEVICE)
    assert (note.kind, note.author, note.life, note.number) == ("evicted", "sensor", EPOCH, 0)
    assert (note.device, note.epoch, note.first, note.last) == (DEVICE, EPOCH, 0, 4)
    assert (note.reason, note.at_us) == ("full", NOW_US)


def test_tombstone_that_was_handed_out_is_never_changed(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=1)
    put(one, 0)
    put(one, 1)
    assert spans(one) == [(0, 0, "full")]
    put(one, 2)
    put(one, 3)
    assert spans(one) == [(0, 0, "full"), (1, 2, "full")]
    one.drop_notes([(EPOCH, 0)])
    assert [note.number for note in one.notes(DEVICE)] == [1]
    assert one.counts.notes == 1


def test_numbers_of_tombstones_are_not_used_again_after_they_were_dropped(
    db: sqlite3.Connection,
) -> None:
    one = ring(db, readings_max=1)
    put(one, 0)
    put(one, 1)
    one.drop_notes([(note.life, note.number) for note in one.notes(DEVICE)])
    put(one, 2)
    assert [note.number for note in one.notes(DEVICE)] == [1]


def test_readings_in_the_air_go_last(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=3)
    for seq in range(3):
        put(one, seq)
    assert [reading.seq for reading in one.take(UNSENT, 2, 10**6)] == [0, 1]
    put(one, 3)
    assert [seq for seq, _ in held(db)] == [0, 1, 3]
    put(one, 4)
    put(one, 5)
    assert [seq for seq, _ in held(db)] == [0, 1, 5]


def test_readings_in_the_air_go_too_when_nothing_else_is_left(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=2)
    put(one, 0)
    put(one, 1)
    one.take(UNSENT, 2, 10**6)
    put(one, 2)
    put(one, 3)
    put(one, 4)
    assert len(held(db)) == 2
    assert one.counts.evicted == {"full": 3}


def test_bytes_are_a_limit_too(db: sqlite3.Connection) -> None:
    size = put(ring(db), 0)
    one = ring(db, bytes_max=3 * size)
    for seq in range(1, 6):
        put(one, seq)
    assert [seq for seq, _ in held(db)] == [3, 4, 5]
    assert one.counts.size_bytes == 3 * size


def test_age_counts_running_time_and_names_itself(db: sqlite3.Connection) -> None:
    one = ring(db, age_s_max=10)
    put(one, 0, ran_us=0)
    put(one, 1, ran_us=8_000_000)
    one.expire(11_000_000, NOW_US)
    assert [seq for seq, _ in held(db)] == [1]
    assert spans(one) == [(0, 0, "age")]


def test_age_does_not_matter_without_a_limit(db: sqlite3.Connection) -> None:
    one = ring(db)
    put(one, 0, ran_us=0)
    one.expire(10**15, NOW_US)
    assert len(held(db)) == 1


def test_run_has_one_epoch_and_no_gap(db: sqlite3.Connection) -> None:
    one = ring(db)
    for epoch, seq in ((5, 0), (5, 1), (7, 0), (7, 1), (7, 3)):
        put(one, seq, epoch=epoch)

    def runs() -> list[tuple[int, int]]:
        return [(reading.epoch, reading.seq) for reading in one.take(UNSENT, 10, 10**6)]

    assert [runs(), runs(), runs(), runs()] == [[(5, 0), (5, 1)], [(7, 0), (7, 1)], [(7, 3)], []]


def test_run_stops_at_its_bytes_but_is_never_empty(db: sqlite3.Connection) -> None:
    one = ring(db)
    size, *_ = [put(one, seq) for seq in range(3)]
    assert len(one.take(UNSENT, 10, 2 * size)) == 2
    assert len(one.take(UNSENT, 10, 1)) == 1


def test_what_landed_is_taken_again(db: sqlite3.Connection) -> None:
    one = ring(db)
    put(one, 0)
    (reading,) = one.take(UNSENT, 1, 10**6)
    assert one.take(UNSENT, 1, 10**6) == ()
    one.land([(EPOCH, 0)])
    assert one.take(UNSENT, 1, 10**6) == (reading,)


def test_marking_what_has_gone_changes_nothing(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=1)
    put(one, 0)
    put(one, 1)
    before = one.counts
    one.mark([(EPOCH, 0)], SENT)
    assert one.counts == before
    assert held(db) == [(1, UNSENT)]


def test_parked_readings_count_as_waiting_and_may_be_evicted(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=2)
    put(one, 0)
    one.mark([(EPOCH, 0)], PARKED)
    put(one, 1)
    assert (one.counts.parked, one.counts.waiting, one.room) == (1, 2, 0)
    put(one, 2)
    assert held(db) == [(1, UNSENT), (2, UNSENT)]
    assert spans(one) == [(0, 0, "full")]


def test_waiting_lists_everything_unacknowledged_oldest_first(db: sqlite3.Connection) -> None:
    one = ring(db)
    for seq in range(4):
        put(one, seq)
    one.mark([(EPOCH, 1)], SENT)
    one.mark([(EPOCH, 2)], PARKED)
    one.take(UNSENT, 1, 10**6)
    assert [reading.seq for reading in one.waiting(10)] == [0, 2, 3]


def test_fits_asks_for_both_limits(db: sqlite3.Connection) -> None:
    one = ring(db, readings_max=2, bytes_max=100)
    assert one.fits(b"x" * 100)
    assert not one.fits(b"x" * 101)
    put(one, 0)
    put(one, 1)
    assert not one.fits(b"x")
