import asyncio
from pathlib import Path

import pytest

from plantroom.cloud import retention, verifying
from plantroom.cloud.book_tables import stored_books
from plantroom.cloud.sqlite_store import SqliteReader, SqliteStore
from plantroom.cloud.verifying_notes import Notes
from plantroom.wire.clock import SystemClock
from tests.fakes.deliveries import DEVICE, MINUTE_US, T0_US, delivery, note, reading
from tests.fakes.store_tables import tables


def later(minutes: int) -> int:
    return T0_US + minutes * MINUTE_US


def test_whole_segments_go_and_the_books_say_so(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        for first in range(0, 2500, 500):
            writer.apply(connection, [delivery(map(reading, range(first, first + 500)))])
        gone = retention.retire(connection, later(1700))
        assert gone == 1000, "of the second segment something is younger"
        assert retention.retire(connection, later(1700)) == 0
        (book,) = stored_books(connection)
        assert list(book.stored) == [(0, 2499)], "nothing has shrunk, nothing is asked for"
        assert list(book.retired) == [(0, 999)]
        assert book.reasons == {"evicted(retention)": 1000}
        assert sorted(book.digests) == [0, 1, 2]
        assert not book.holes
        assert connection.execute("SELECT MIN(seq), COUNT(DISTINCT seq) FROM r").fetchone() == (
            *(1000, 1500),
        )
        assert verifying.altered(connection, book, Notes(connection)) == []
        assert retention.retire(connection, later(100_000)) == 1000
        (book,) = stored_books(connection)
        assert list(book.retired) == [(0, 1999)], "the last one may still grow"


def test_what_comes_again_is_receipted_and_counted(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery(map(reading, range(1001)))])
        retention.retire(connection, later(100_000))
        done = writer.apply(connection, [delivery(map(reading, range(990, 1001)), number=2)])
        assert (done.duplicates, done.after_retention) == (11, 10)
        assert [(s.first, s.last) for s in done.receipts[0].stored] == [(990, 1000)]
        assert not done.stored


def test_an_epoch_that_is_over_goes_whole_and_holes_may_still_be_filled(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        old = [reading(seq) for seq in range(100) if seq != 50]
        writer.apply(connection, [delivery(old), delivery([reading(5000, epoch=2)], number=2)])
        assert retention.retire(connection, later(200)) == 99
        writer.apply(connection, [delivery([reading(50)], number=3)])
        (book, _) = stored_books(connection, [DEVICE])
        assert list(book.retired) == [(0, 49), (51, 99)]
        assert verifying.altered(connection, book, Notes(connection)) == []


def test_what_has_no_time_yet_stays(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        untimed = [reading(seq, time_us=None, mono_us=seq) for seq in range(5)]
        writer.apply(connection, [delivery(untimed), delivery([reading(0, epoch=2)], number=2)])
        assert retention.retire(connection, later(-60)) == 0
        notes = [note("correction", 0, 0, 4, offset_us=T0_US)]
        writer.apply(connection, [delivery(notes=notes, number=3)])
        assert retention.retire(connection, later(200)) == 5
        assert connection.execute("SELECT COUNT(*) FROM mono").fetchone() == (0,)


def test_a_stage_keeps_it_while_the_cloud_runs(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.commit([delivery(map(reading, range(1500)))])
        assert await store.retire(later(10**6), 2880 * MINUTE_US) == 0, "the clock has jumped"
        other = reading(0, device=DEVICE.replace("hvac", "energy"), time_us=later(4000))
        await store.commit([delivery([other])])
        stage = asyncio.create_task(retention.keep(store, 1.0, SystemClock()))
        async with asyncio.timeout(60):
            while not (await store.books())[1].retired:  # noqa: ASYNC110 -- another thread's work
                await asyncio.sleep(0.01)
        stage.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stage
        store.close()

    asyncio.run(main())
    reader = SqliteReader(path)
    assert {row.seq for row in reader.export(device="hvac-001")} == set(range(1000, 1500))
    (_, book) = reader.books()
    assert reader.verify(book) == []
    reader.close()
