from pathlib import Path

from plantroom.cloud.placing import IDS_MAX, Series
from tests.fakes.deliveries import DEVICE, T0_US, delivery, reading
from tests.fakes.store_tables import tables


def test_neighbours_that_arrive_together_are_one_run(tmp_path: Path) -> None:
    untimed = reading(3, time_us=None, mono_us=5)
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([*map(reading, (0, 1, 2)), untimed, reading(5)])])
        writer.apply(connection, [delivery([reading(4)], number=2, received_us=1)])
        runs = connection.execute("SELECT first, last, low < 0 FROM arrival ORDER BY first")
        assert runs.fetchall() == [(0, 2, 0), (3, 3, 1), (4, 4, 0), (5, 5, 0)]


def test_rows_lie_in_the_bucket_of_their_hour(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(0), reading(59), reading(60)])])
        buckets = connection.execute("SELECT DISTINCT bucket, seq FROM r ORDER BY seq").fetchall()
    hour = T0_US // 3_600_000_000
    assert buckets == [(hour, 0), (hour, 59), (hour + 1, 60)]


def test_ids_are_made_once_and_found_again_after_forgetting(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, _):
        series = Series()
        book = series.book(connection, DEVICE, 1)
        number = series.series(connection, book.device, "a", "Cel")
        assert series.series(connection, book.device, "a", "K") != number
        series.forget()
        assert series.book(connection, DEVICE, 1) == book
        assert series.series(connection, book.device, "a", "Cel") == number
    assert IDS_MAX > 0


def test_a_unit_that_changes_is_another_series_and_loses_nothing(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(0, temperature=1.0)])])
        writer.apply(connection, [delivery([reading(1, other=1.0)], number=2)])
        points = connection.execute("SELECT point, unit FROM series ORDER BY point").fetchall()
    assert points == [("other", ""), ("temperature", "Cel")]
