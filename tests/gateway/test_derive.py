import asyncio
from typing import Any

import pytest

from plantroom.gateway import derive
from plantroom.gateway.queue_schema import AGAIN, WAITING
from plantroom.gateway.spool import Cursor
from plantroom.wire import cbor
from plantroom.wire.envelope import Note
from plantroom.wire.errors import StorageError


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def test_a_segment_becomes_rows_books_and_cursor(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(5))))
        assert await rig.seqs(WAITING) == [0, 1, 2, 3, 4]
        book = await rig.book()
        assert book["received"] == [[0, 4]]
        assert book["highest"] == 4
        total = sum(int.from_bytes(lab.reading(n).hash()) for n in range(5)) % (1 << 256)
        assert book["digests"] == {0: total.to_bytes(32).hex()}
        assert await rig.queue.cursor() == Cursor(1)
        await rig.check()

    run(scenario())


def test_the_same_reading_twice_is_counted_not_stored(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(5))), lab.pack([lab.reading(3)]))
        await rig.receive(lab.pack(map(lab.reading, range(2, 7))))
        assert await rig.seqs() == [0, 1, 2, 3, 4, 5, 6]
        assert (await rig.queue.standings()).tallies["duplicates"] == 4

    run(scenario())


def test_the_same_key_with_another_hash_is_quarantined(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        for _ in range(2):
            await rig.receive(lab.pack([lab.reading(1, value=99.0)]))
        assert await rig.seqs() == [0, 1, 2]
        [note] = await rig.notes()
        assert (note.kind, note.reason, note.first, note.last) == (
            "quarantined",
            "epoch-reuse",
            1,
            1,
        )
        assert (await rig.book())["disputed"]
        assert len(await rig.sql("SELECT raw FROM quarantine WHERE reason = 'epoch-reuse'")) == 1

    run(scenario())


def test_another_devices_name_is_quarantined_and_the_rest_goes_on(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([lab.reading(0), lab.reading(1, name="other"), lab.reading(2)]))
        assert await rig.seqs() == [0, 2]
        assert (await rig.book())["quarantined"] == [[1, 1]]
        assert [note.reason for note in await rig.notes()] == ["foreign-device"]
        with pytest.raises(KeyError):
            await rig.book("other")

    run(scenario())


def test_an_undecodable_pack_is_booked_with_its_range(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        garbage = lab.pack([], payload=b"\x9fnonsense", user={"range": "7/3/5"})
        await rig.receive(lab.pack(map(lab.reading, range(3))), garbage, garbage)
        await rig.receive(lab.pack([lab.reading(6)]))
        assert (await rig.book())["quarantined"] == [[3, 5]]
        [note] = await rig.notes()
        assert (note.first, note.last, note.reason, note.author) == (3, 5, "undecodable", "gateway")

    run(scenario())


def test_without_a_range_the_hole_up_to_the_next_reading_is_booked(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        await rig.receive(lab.pack([], payload=b"\xff"))
        await rig.receive(lab.pack([lab.reading(5)]), lab.pack([lab.reading(9)]))
        assert (await rig.book())["quarantined"] == [[3, 4]]

    run(scenario())


def test_a_bad_reading_is_set_apart_alone(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        records = [
            {-2: lab.device() + "/", -3: 1.79e9, "epoch": 7, "seq": n, 0: "t", 2: value}
            for n, value in enumerate([1.0, float("nan"), 3.0])
        ]
        await rig.receive(lab.pack([], payload=cbor.dumps(records), user={"range": "7/0/2"}))
        assert await rig.seqs() == [0, 2]
        assert (await rig.book())["quarantined"] == [[1, 1]]

    run(scenario())


def test_unnumbered_packs_get_an_epoch_of_the_gateways(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        payload = cbor.dumps([{-2: lab.device("dust") + "/", -3: 1.79e9, 0: "pm10", 2: 8}])
        one = lab.pack([], "dust", payload=payload, packet_id=9)
        again = lab.pack([], "dust", payload=payload, packet_id=9, dup=True)
        other = lab.pack([], "dust", payload=payload, packet_id=10)
        await rig.receive(one, again, other)
        await rig.receive(again)
        assert await rig.seqs() == [0, 1]
        await rig.restart()
        await rig.receive(lab.pack([], "dust", payload=payload, packet_id=11))
        epochs = [book["epoch"] for book in await rig.queue.ledger()]
        assert len(epochs) == 2
        assert epochs[0] >> 20 < epochs[1] >> 20 < 2**33

    run(scenario())


def test_only_a_seq_above_the_highest_is_live(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack([lab.reading(5)]))
        await rig.receive(lab.pack([lab.reading(2), lab.reading(6)]))
        assert await rig.seqs(AGAIN) == [2]
        assert await rig.seqs(WAITING) == [5, 6]

    run(scenario())


def test_a_sensors_tombstone_travels_and_is_booked(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        note = Note(
            kind="evicted",
            author="sensor",
            life=7,
            number=0,
            device=lab.device(),
            epoch=7,
            first=0,
            last=9,
            reason="full",
            at_us=lab.NOW_US,
        )
        await rig.receive(lab.notes_arrival([note]), lab.notes_arrival([note]))
        assert await rig.notes() == [note]
        assert (await rig.book())["evicted"] == [[0, 9]]

    run(scenario())


def test_gone_is_passed_on_only_for_what_is_not_here(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        gone = Note(
            kind="gone",
            author="sensor",
            life=7,
            number=0,
            device=lab.device(),
            epoch=7,
            first=0,
            last=5,
            reason="media",
            at_us=lab.NOW_US,
        )
        await rig.receive(lab.notes_arrival([gone]))
        [note] = await rig.notes()
        assert (note.kind, note.first, note.last) == ("gone", 3, 5)
        await rig.receive(lab.pack([lab.reading(4)]))
        assert (await rig.book())["gone"] == [[3, 3], [5, 5]]

    run(scenario())


@pytest.mark.parametrize("crash_after", range(1, 48))
def test_deriving_again_after_a_crash_at_any_step_gives_the_same(
    make_rig: Any, lab: Any, crash_after: int
) -> None:
    """Crash at the nth statement of the derive transaction; then restart and derive."""

    async def feed(rig: Any) -> None:
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(4))))
        await rig.commit(
            lab.pack(map(lab.reading, range(3, 8))),
            lab.pack([], payload=b"\xff", user={"range": "7/8/9"}),
            lab.pack([lab.reading(1, value=5.0)]),
        )

    async def scenario() -> None:
        whole, broken = make_rig(), make_rig()
        await feed(whole)
        await whole.derive()
        await feed(broken)
        statements = 0

        def count(_statement: str) -> None:
            nonlocal statements
            statements += 1

        writer = broken.database._writer
        post = broken.queue._post

        def crash(*arguments: Any) -> Any:
            writer.set_trace_callback(count)
            writer.set_progress_handler(lambda: int(statements >= crash_after), 1)
            try:
                return post(*arguments)
            finally:
                writer.set_progress_handler(None, 1)
                writer.set_trace_callback(None)

        broken.queue._post = crash
        with pytest.raises(StorageError, match="interrupted"):
            await broken.derive()
        assert await broken.queue.cursor() == Cursor(1)
        await broken.restart()
        await broken.derive()
        assert await broken.seqs() == await whole.seqs()
        assert await broken.book() == await whole.book()
        assert len(await broken.notes()) == len(await whole.notes())
        await broken.check()

    run(scenario())


def test_a_large_segment_is_derived_in_parts_that_a_restart_goes_on_from(
    make_rig: Any, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one commit of the broker holds is bounded by its clients, not by our memory."""
    monkeypatch.setattr(derive, "_READINGS_MAX", 4)

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.commit(*(lab.pack([lab.reading(n), lab.reading(n + 1)]) for n in range(0, 14, 2)))
        await rig.commit(lab.pack([lab.reading(14)]))
        found, sizes = [], []
        group = await rig.deriver._next(Cursor(0))
        while group is not None:
            await rig.deriver._post(group)
            found.append(await rig.queue.cursor())
            sizes.append(len(group.intakes))
            await rig.restart()
            group = await rig.deriver._next(await rig.queue.cursor())
        assert found == [Cursor(0, 2), Cursor(0, 4), Cursor(0, 6), Cursor(2)]
        assert sizes == [2, 2, 2, 2]
        assert await rig.seqs() == list(range(15))
        assert (await rig.queue.standings()).tallies.get("duplicates") is None
        await rig.check()

    run(scenario())


@pytest.mark.parametrize("kind", ["unnumbered", "undecodable"])
def test_what_is_decoded_at_once_is_bounded_whatever_it_is(
    make_rig: Any, lab: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    samples = [{-2: lab.device("dust") + "/", -3: 1.79e9 + n, 0: "pm10", 2: 8} for n in range(9)]
    payload = {"unnumbered": cbor.dumps(samples), "undecodable": b"\xff" * 900}[kind]
    monkeypatch.setattr(derive, "_BYTES_MAX", 2 * len(payload))

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for first in (0, 5):
            parcels = [lab.pack([], "dust", payload=payload, packet_id=first + n) for n in range(5)]
            await rig.commit(*parcels)
        sizes = []
        cursor = Cursor(0)
        while (group := await rig.deriver._next(cursor)) is not None:
            cursor = group.upto
            sizes.append(len(group.intakes))
        assert (max(sizes), sum(sizes)) == (2, 10)

    run(scenario())
