from plantroom.cloud.store import StoredBook
from plantroom.cloud.welcoming import RANGES_PER_ANSWER, refill, welcomes
from plantroom.cloud.welcoming import asked as named
from plantroom.wire.envelope import Book, Hello
from plantroom.wire.ranges import RangeSet
from tests.fakes.deliveries import DEVICE


def stored(*ranges: tuple[int, int], highest: int, epoch: int = 1) -> StoredBook:
    return StoredBook(
        spiffe_id=DEVICE,
        site="building-1",
        device="hvac-001",
        epoch=epoch,
        highest=highest,
        stored=RangeSet(ranges),
        quarantined=RangeSet([(2, 2)]),
        evicted=RangeSet([(3, 3)]),
        gone=RangeSet(),
        digests={0: b"x" * 32},
        disputed=False,
    )


def hello(*epochs: int) -> Hello:
    books = tuple(Book(device=DEVICE, epoch=epoch, highest=9) for epoch in epochs)
    return Hello(incarnation=1, number=4, gateway="gateway", books=books)


def test_answer_has_the_stores_side_of_each_book_and_empty_ones_for_the_unknown() -> None:
    (answer,) = welcomes(hello(1, 2), [stored((0, 1), highest=9)], store_id="s", commit=3)
    assert (answer.number, answer.store_id, answer.commit) == (4, "s", 3)
    known, unknown = answer.books
    assert (known.ranges, known.digests) == (((0, 1),), {0: b"x" * 32})
    assert (unknown.epoch, unknown.highest, unknown.ranges) == (2, -1, ())


def test_empty_hello_is_answered_too() -> None:
    (answer,) = welcomes(hello(), [], store_id="s", commit=3)
    assert answer.books == ()


def test_large_answer_comes_in_parts() -> None:
    books = [
        stored(*[(n, n) for n in range(0, 4000, 2)], highest=4000, epoch=epoch)
        for epoch in range(9)
    ]
    parts = list(welcomes(hello(*range(9)), books, store_id="s", commit=3))
    assert len(parts) > 1
    assert [book.epoch for part in parts for book in part.books] == list(range(9))
    assert all(
        sum(len(book.ranges) for book in part.books) <= 2 * RANGES_PER_ANSWER for part in parts
    )


def test_holes_are_asked_for_and_what_is_noted_is_not() -> None:
    asked = refill([stored((0, 1), highest=5)], store_id="s", commit=3, holes_max=10)
    assert asked is not None
    assert [(hole.first, hole.last) for hole in asked.holes] == [(4, 5)]
    whole = [stored((0, 1), (4, 5), highest=5)]
    assert refill(whole, store_id="s", commit=3, holes_max=10) is None


def test_holes_of_one_answer_are_bounded_and_only_of_books_in_the_hello() -> None:
    gappy = stored(*[(n, n) for n in range(10, 100, 2)], highest=100)
    asked = refill(named(hello(1), [gappy]), store_id="s", commit=3, holes_max=7)
    assert asked is not None
    assert len(asked.holes) == 7
    assert refill(named(hello(2), [gappy]), store_id="s", commit=3, holes_max=7) is None
