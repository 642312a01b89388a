"""A damaged queue file: what is whole in it comes back, what is not is named by the file's name."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.salvage import Salvage, read
from plantroom.gateway.tables import move
from plantroom.wire.damage import set_aside_in
from plantroom.wire.envelope import Note, Refill, Span
from plantroom.wire.ranges import RangeSet
from plantroom.wire.sqlite import set_aside
from tests.fakes.gateway_rig import TRUST_DOMAIN, Rig, arrivals

COUNT = 3_000


async def filled(rig: Rig, lab: Any) -> None:
    """Queue readings of which the first 500 are confirmed, a note, and a segment not derived."""
    await rig.start()
    for first in range(0, COUNT, 500):
        await rig.receive(lab.pack(map(lab.reading, range(first, first + 500))))
    await rig.receive(lab.notes_arrival([evicted(lab)]))
    await rig.database.write(lambda sql: move(sql, range(1, 501), CONFIRMED))
    await rig.commit(lab.pack(map(lab.reading, range(COUNT, COUNT + 10))))
    await rig.database.checkpoint()


def evicted(lab: Any, kind: Any = "evicted", **more: Any) -> Note:
    values: dict[str, Any] = {"first": COUNT + 10, "last": COUNT + 19, "reason": "full"}
    return Note(
        kind=kind,
        author="sensor",
        life=7,
        number=0,
        device=lab.device(),
        epoch=7,
        at_us=1,
        **values | more,
    )


def spoil(path: Path, share: float, size: int = 60_000) -> None:
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * share))
        file.write(b"\xa5" * size)


async def begun_anew(rig: Rig, share: float) -> Salvage:
    rig.close()
    spoil(rig.path, share)
    set_aside(rig.path, "1")
    rig._open()
    await rig.start()
    files = set_aside_in(rig.path)
    assert [path.name for path in files] == [f"{rig.path.name}.damaged-1"]
    return Salvage(
        rig.queue, files, arrivals=arrivals, trust_domain=TRUST_DOMAIN, wake=lambda: None
    )


def test_what_can_be_read_comes_back_and_the_rest_is_named_by_the_file(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await filled(rig, lab)
        salvage = await begun_anew(rig, 0.4)
        gone = evicted(lab, "gone", first=0, last=COUNT - 1, reason="media")
        await rig.receive(lab.notes_arrival([gone]))
        assert await rig.notes() == []  # the file may still have it
        await salvage.run()
        book = await rig.book()
        back = RangeSet(map(tuple, book["received"]))
        assert COUNT / 2 < back.count < COUNT + 10
        assert back.covers(COUNT, COUNT + 9)  # from the segment
        assert book["highest"] == COUNT + 19
        assert book["evicted"] == []  # it is the note that is told, when it is receipted
        assert {note.kind for note in await rig.notes()} == {"evicted"}
        assert all(
            held == lab.reading(seq).hash()
            for seq, held in await rig.sql("SELECT seq, hash FROM reading")
        )
        await salvage.run()  # once is enough
        await rig.receive(lab.notes_arrival([gone]))
        book = await rig.book()
        missing = back.holes(COUNT - 1)
        assert RangeSet(map(tuple, book["quarantined"])) == missing
        assert book["reasons"][f"quarantined(file {rig.path.name}.damaged-1)"] == missing.count
        told = [note for note in await rig.notes() if note.kind == "quarantined"]
        assert sum(note.last - note.first + 1 for note in told) == missing.count
        await rig.check()

    asyncio.run(scenario())


def test_a_file_of_which_nothing_can_be_read_is_no_obstacle(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await filled(rig, lab)
        salvage = await begun_anew(rig, 0.0)
        await salvage.run()
        assert await rig.queue.ledger() == []
        hole = Span(device=lab.device(), epoch=7, first=0, last=9)
        assert await rig.queue.refill(Refill(store_id="a", commit=1, holes=(hole,))) == [hole]

    asyncio.run(scenario())


def test_a_file_that_was_taken_away_leaves_its_readings_lost(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await filled(rig, lab)
        await (await begun_anew(rig, 0.0)).run()
        for path in set_aside_in(rig.path):
            path.unlink()
        await rig.restart()
        await rig.receive(lab.notes_arrival([evicted(lab, "gone", first=0, last=9)]))
        [note] = await rig.notes()
        assert (note.kind, note.first, note.last) == ("gone", 0, 9)

    asyncio.run(scenario())


def test_a_whole_file_gives_back_everything_that_was_not_confirmed(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await filled(rig, lab)
        rig.close()
        parts = list(read(rig.path, pickle.loads, TRUST_DOMAIN))
        rows = [row for part in parts for intake in part.intakes for row in intake.rows]
        assert [row.seq for row in rows] == list(range(500, COUNT + 10))
        assert [head for part in parts for head in part.heads] == [(lab.device(), 7, COUNT + 19)]
        assert [note for part in parts for note in part.notes] == [evicted(lab)]

    asyncio.run(scenario())


@pytest.mark.parametrize("claimed", [(-(2**62), 2**63 - 1), (-(2**62), 0)])
def test_an_id_that_a_damaged_page_claims_is_not_counted_up_to(
    make_rig: Any, lab: Any, claimed: tuple[int, ...]
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await filled(rig, lab)
        update = "UPDATE reading SET id = ? WHERE seq = ?"
        values = list(zip(claimed, (COUNT - 1, 700), strict=True))
        await rig.database.write(lambda sql: sql.executemany(update, values))
        rig.close()
        parts = list(read(rig.path, pickle.loads, TRUST_DOMAIN))
        rows = [row for part in parts for intake in part.intakes for row in intake.rows]
        assert sorted(row.seq for row in rows) == list(range(500, COUNT + 10))

    asyncio.run(scenario())
