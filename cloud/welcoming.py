"""The answer to a gateway's hello: what the store has of its books, and which holes it asks for."""

from collections.abc import Iterable, Iterator, Sequence

from plantroom.cloud.store import StoredBook
from plantroom.wire.envelope import Book, Hello, Refill, Span, Welcome

RANGES_PER_ANSWER = 5000


def welcomes(
    hello: Hello, books: Iterable[StoredBook], *, store_id: str, commit: int, branch: str = ""
) -> Iterator[Welcome]:
    """Answer with the store's side of the hello's books, in parts of a bounded size.

    A book that the store has never heard of is answered as empty.
    """
    known = {(book.spiffe_id, book.epoch): book for book in books}
    part: list[Book] = []
    weight = 0
    for asked in hello.books:
        book = known.get((asked.device, asked.epoch))
        part.append(_book(asked, book))
        weight += 1 + len(part[-1].ranges) + len(part[-1].digests)
        if weight >= RANGES_PER_ANSWER:
            yield _welcome(hello, part, store_id, commit, branch)
            part, weight = [], 0
    if part or not hello.books:
        yield _welcome(hello, part, store_id, commit, branch)


def _welcome(
    hello: Hello, books: Sequence[Book], store_id: str, commit: int, branch: str
) -> Welcome:
    return Welcome(
        incarnation=hello.incarnation,
        number=hello.number,
        store_id=store_id,
        commit=commit,
        books=tuple(books),
        branch=branch,
        knows=hello.heard if hello.store_id == store_id else {},
    )


def _book(asked: Book, book: StoredBook | None) -> Book:
    if book is None:
        return Book(device=asked.device, epoch=asked.epoch, highest=-1)
    return Book(
        device=book.spiffe_id,
        epoch=book.epoch,
        highest=book.highest,
        ranges=tuple(book.stored),
        digests=dict(book.digests),
    )


def asked(hello: Hello, books: Iterable[StoredBook]) -> list[StoredBook]:
    """Return the store's books that the hello speaks of."""
    named = {(book.device, book.epoch) for book in hello.books}
    return [book for book in books if (book.spiffe_id, book.epoch) in named]


def refill(
    books: Iterable[StoredBook], *, store_id: str, commit: int, holes_max: int
) -> Refill | None:
    """Ask for what is in no state in the store; None when every book is whole."""
    holes = [
        Span(device=book.spiffe_id, epoch=book.epoch, first=first, last=last)
        for book in books
        for first, last in book.holes
    ]
    if not holes:
        return None
    return Refill(store_id=store_id, commit=commit, holes=tuple(holes[:holes_max]))
