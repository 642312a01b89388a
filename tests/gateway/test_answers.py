import asyncio
from typing import Any

import pytest

from plantroom.gateway import answers
from plantroom.gateway.lanes import Flight, Lanes
from plantroom.gateway.queue_schema import AGAIN, CONFIRMED
from plantroom.wire import cbor, senml_record
from plantroom.wire.envelope import Note, Receipt, Refill, Span
from plantroom.wire.errors import StorageFullError


async def fly(rig: Any, count: int = 100, lanes: Lanes | None = None) -> Flight:
    await rig.queue.connected([])
    taken = await rig.queue.take("backfill", readings_max=count, bytes_max=10**6, notes_max=100)
    return (lanes or Lanes()).launch("backfill", taken.rows, taken.notes)


def receipt(flight: Flight, *spans: Span, **more: Any) -> Receipt:
    values: dict[str, Any] = {
        "incarnation": 1,
        "number": flight.number,
        "store_id": "a",
        "commit": 1,
        "stored": spans,
    }
    return Receipt(**values | more)


def span(lab: Any, first: int, last: int, **more: Any) -> Span:
    return Span(**{"device": lab.device(), "epoch": 7, "first": first, "last": last} | more)


def test_a_receipt_confirms_exactly_the_batchs_rows_in_its_ranges(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        flight = await fly(rig, 6)
        foreign = span(lab, 0, 9, device=lab.device("other"))
        answer = receipt(flight, span(lab, 0, 2), span(lab, 4, 99), foreign)
        outcome = await rig.queue.settle(answer, flight)
        assert (outcome.confirmed, len(outcome.again)) == (5, 1)
        assert await rig.seqs(CONFIRMED) == [0, 1, 2, 4, 5]
        assert await rig.seqs(AGAIN) == [3]
        await rig.queue.settle(answer, flight)  # the same receipt twice changes nothing
        assert await rig.seqs(CONFIRMED) == [0, 1, 2, 4, 5]
        assert (await rig.book())["confirmed"] == [[0, 2], [4, 5]]
        await rig.check()

    asyncio.run(scenario())


def test_only_the_notes_that_are_named_are_told(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for n in (0, 5):
            await rig.receive(lab.pack([], payload=b"\xff%d" % n, user={"range": f"7/{n}/{n}"}))
        flight = await fly(rig)
        (_, first), _ = flight.notes
        await rig.queue.settle(receipt(flight, notes=(first,)), flight)
        assert [note.first for note in await rig.notes()] == [5]
        flight = await fly(rig)
        assert len(flight.notes) == 1  # what was not named goes again

    asyncio.run(scenario())


def test_a_store_that_is_new_gets_everything_again_in_bounded_steps(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100)
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(60))))
        flight = await fly(rig)
        await rig.queue.settle(receipt(flight, span(lab, 0, 59)), flight)
        assert await rig.queue.standing_of("b") == "changed"
        await rig.receive(lab.pack(map(lab.reading, range(60, 120))))
        assert len(await rig.seqs()) == 120  # what waits for the new store is no history to drop
        steps = []
        while done := await rig.database.write(lambda sql: answers.requeue(sql, 25)):
            steps.append(done)
        assert steps == [25, 25, 10]
        assert await rig.seqs(CONFIRMED) == []
        await rig.restart()
        assert len(await rig.seqs(AGAIN)) == 60
        assert await rig.queue.standing_of("a") == "former"
        await rig.check()

    asyncio.run(scenario())


def test_a_store_that_is_new_is_told_every_note_again(make_rig: Any, lab: Any) -> None:
    """It has no clock correction of ours: readings that it refills would stay without a time."""

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([], payload=b"\xff", user={"range": "7/0/3"}))
        flight = await fly(rig)
        [(_, name)] = flight.notes
        await rig.queue.settle(receipt(flight, notes=(name,)), flight)
        assert not (await fly(rig)).notes
        assert await rig.queue.standing_of("b") == "changed"
        assert [told for _, told in (await fly(rig)).notes] == [name]

    asyncio.run(scenario())


def test_a_quarantine_that_was_lifted_is_stored_and_its_digest_closes(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        whole = (await rig.book())["digests"]
        flight = await fly(rig)
        refused = (span(lab, 1, 1, reason="bad"),)
        await rig.queue.settle(
            receipt(flight, span(lab, 0, 0), span(lab, 2, 2), quarantined=refused), flight
        )
        book = await rig.book()
        assert book["quarantined"] == [[1, 1]]
        without = sum(int.from_bytes(lab.reading(n).hash()) for n in (0, 2)) % (1 << 256)
        assert book["digests"] == {0: without.to_bytes(32).hex()}
        await rig.queue.settle(receipt(flight, span(lab, 0, 2)), flight)
        book = await rig.book()
        assert (book["quarantined"], book["digests"]) == ([], whole)

    asyncio.run(scenario())


def test_nothing_is_gone_before_earlier_segments_are_derived(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(10))))
        await rig.database.write(lambda sql: sql.execute("DELETE FROM reading WHERE seq < 5"))
        refill = Refill(store_id="a", commit=9, holes=(span(lab, 0, 20),))
        await rig.commit(lab.pack(map(lab.reading, range(5))))
        await rig.queue.refill(refill)
        assert await rig.notes() == []
        await rig.derive()
        await rig.queue.refill(refill)
        assert await rig.notes() == []
        assert sorted(await rig.seqs()) == list(range(10))
        await rig.database.write(lambda sql: sql.execute("DELETE FROM reading WHERE seq < 3"))
        for _ in range(2):
            asks = await rig.queue.refill(refill)
            assert [(ask.first, ask.last) for ask in asks] == [(0, 2), (10, 20)]
        assert await rig.notes() == []  # the sensor's ring may still have them
        gone = Note(
            kind="gone",
            author="sensor",
            life=7,
            number=0,
            device=lab.device(),
            epoch=7,
            first=0,
            last=4,
            reason="media",
            at_us=1,
        )
        await rig.receive(lab.notes_arrival([gone]))
        assert {(n.kind, n.first, n.last) for n in await rig.notes()} == {("gone", 0, 2)}

    asyncio.run(scenario())


def test_a_hole_of_a_book_that_was_lost_with_the_disk_is_asked_of_its_sensor(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        [ask] = await rig.queue.refill(Refill(store_id="a", commit=9, holes=(span(lab, 5, 8),)))
        assert (ask.device, ask.epoch, ask.first, ask.last) == (lab.device(), 7, 5, 8)
        book = await rig.book()
        assert (book["highest"], book["received"]) == (8, [])

    asyncio.run(scenario())


def test_what_this_gateway_has_numbered_itself_is_gone_without_asking(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        unnumbered = cbor.dumps(
            [{senml_record.N: "t", senml_record.V: 1.0, senml_record.BT: 1.79e9}]
        )
        await rig.receive(lab.pack([], payload=unnumbered))
        [book] = await rig.queue.ledger()
        await rig.database.write(lambda sql: sql.execute("DELETE FROM reading") and None)
        hole = Span(device=lab.device(), epoch=book["epoch"], first=0, last=0)
        assert await rig.queue.refill(Refill(store_id="a", commit=9, holes=(hole,))) == []
        [note] = await rig.notes()
        assert (note.kind, note.epoch, note.reason) == ("gone", book["epoch"], "media")

    asyncio.run(scenario())


def test_an_eviction_is_said_again_for_a_hole(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(110))))
        flight = await fly(rig)
        names = tuple(name for _, name in flight.notes)
        await rig.queue.settle(receipt(flight, span(lab, 10, 109), notes=names), flight)
        assert await rig.notes() == []
        await rig.queue.refill(Refill(store_id="a", commit=9, holes=(span(lab, 3, 4),)))
        [note] = await rig.notes()
        assert (note.kind, note.first, note.last, note.reason) == ("evicted", 3, 4, "full")

    asyncio.run(scenario())


def test_a_receipt_that_cannot_be_written_leaves_its_batch_in_the_air(
    make_rig: Any, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the air is not evicted; the receipt comes again once the disk has room."""

    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(100))))
        flight = await fly(rig)
        plain = rig.database.write

        async def full(work: Any) -> None:
            def undone(sql: Any) -> None:
                work(sql)
                raise StorageFullError("no space left")

            await plain(undone)

        with monkeypatch.context() as patch:
            patch.setattr(rig.database, "write", full)
            with pytest.raises(StorageFullError):
                await rig.queue.settle(receipt(flight, span(lab, 0, 99)), flight)
        await rig.receive(lab.pack(map(lab.reading, range(100, 110))))
        assert (await rig.book())["evicted"] == [[100, 109]]  # not what flies

    asyncio.run(scenario())
