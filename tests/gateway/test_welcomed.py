import asyncio
from typing import Any

from plantroom.gateway.lanes import Flight, Lanes
from plantroom.wire.envelope import Book, Receipt, Refill, Span, Welcome


async def fly(rig: Any) -> Flight:
    await rig.queue.connected([])
    taken = await rig.queue.take("backfill", readings_max=100, bytes_max=10**6, notes_max=100)
    return Lanes().launch("backfill", taken.rows, taken.notes)


def span(lab: Any, first: int, last: int) -> Span:
    return Span(device=lab.device(), epoch=7, first=first, last=last)


def receipt(lab: Any, flight: Flight, *ranges: tuple[int, int]) -> Receipt:
    stored = tuple(span(lab, *each) for each in ranges)
    return Receipt(incarnation=1, number=flight.number, store_id="a", commit=1, stored=stored)


def welcome(lab: Any, rig: Any, digests: dict[int, bytes], *ranges: tuple[int, int]) -> Welcome:
    book = Book(device=lab.device(), epoch=7, highest=9, ranges=ranges, digests=digests)
    return Welcome(
        incarnation=rig.queue.incarnation, number=1, store_id="a", commit=9, books=(book,)
    )


def test_a_digest_that_differs_over_the_same_ranges_is_an_imbalance(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        flight = await fly(rig)
        await rig.queue.settle(receipt(lab, flight, (0, 9)), flight)
        found = await rig.queue.welcome(welcome(lab, rig, {0: b"\x01" * 32}, (0, 9)))
        assert found.balance == {(lab.device(), 7): "digest of segment 0"}
        assert await rig.queue.unsettled() == 1
        [mine] = await rig.queue.hello_books(books_max=9, bytes_max=10**6)
        found = await rig.queue.welcome(welcome(lab, rig, dict(mine.digests), (0, 9)))
        assert found.forgotten == {}
        assert found.balance == {(lab.device(), 7): ""}
        assert await rig.queue.unsettled() == 0

    asyncio.run(scenario())


def test_what_the_store_has_and_was_never_received_here_is_told_once(
    make_rig: Any, lab: Any
) -> None:
    """A queue restored from a backup: its store has 0 to 1999, it knows of 0 to 9 and 1500."""

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, (*range(10), 1500))))
        flight = await fly(rig)
        await rig.queue.settle(receipt(lab, flight, (0, 9), (1500, 1500)), flight)
        digests = {0: b"\x01" * 32, 1: b"\x02" * 32}
        found = await rig.queue.welcome(welcome(lab, rig, digests, (0, 1999)))
        assert found.forgotten == {(lab.device(), 7): 1989}
        assert found.balance == {(lab.device(), 7): ""}  # of these segments it cannot say
        assert await rig.queue.unsettled() == 0
        found = await rig.queue.welcome(welcome(lab, rig, digests, (0, 1999)))
        assert found.forgotten == {}
        book = await rig.book()
        assert book["received"] == [[0, 9], [1500, 1500]]
        asked = Refill(store_id="a", commit=9, holes=(span(lab, 20, 29),))
        assert await rig.queue.refill(asked) == [span(lab, 20, 29)]  # it may lose them again

    asyncio.run(scenario())
