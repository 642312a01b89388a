from pathlib import Path

from plantroom.cloud import book_tables
from plantroom.cloud.store_schema import EVICTED, GONE, QUARANTINED, STORED
from plantroom.wire import spans
from tests.fakes.deliveries import DEVICE, delivery, reading
from tests.fakes.store_tables import tables


def test_digest_is_the_sum_of_hashes_by_segment(tmp_path: Path) -> None:
    readings = [reading(seq) for seq in (0, 1, 999, 1000)]
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery(readings[:2])])
        writer.apply(connection, [delivery(readings[2:], number=2)])
        (book,) = book_tables.stored_books(connection)
    sums = {0: 0, 1: 0}
    for made in readings:
        sums[made.seq // 1000] += int.from_bytes(made.hash())
    assert book.digests == {
        segment: (total % 2**256).to_bytes(32) for segment, total in sums.items()
    }


def test_stronger_state_wins_whichever_comes_first(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(5)])])
        book = book_tables.open_book(connection, 1, 1)
        book_tables.settle(connection, book, GONE, 0, 9)
        book_tables.settle(connection, book, QUARANTINED, 2, 3)
        book_tables.settle(connection, book, EVICTED, 3, 6)
        found = {kind: list(spans.load(connection, (book, kind))) for kind in range(4)}
    assert found == {
        STORED: [(5, 5)],
        QUARANTINED: [(2, 3)],
        EVICTED: [(4, 4), (6, 6)],
        GONE: [(0, 1), (7, 9)],
    }


def test_highest_never_falls(tmp_path: Path) -> None:
    with tables(tmp_path) as (connection, writer):
        writer.apply(connection, [delivery([reading(5)], heads={DEVICE: {1: 8}})])
        book_tables.raise_highest(connection, 1, 3)
        (book,) = book_tables.stored_books(connection, [DEVICE])
        assert book_tables.stored_books(connection, ["spiffe://x.y/z"]) == []
    assert book.highest == 8
