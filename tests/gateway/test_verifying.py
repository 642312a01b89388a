import asyncio
import hashlib
from functools import partial
from typing import Any

import pytest

from plantroom.gateway import verifying
from plantroom.gateway.queue_schema import CONFIRMED, STORED
from plantroom.gateway.tables import move, remove
from plantroom.gateway.verifying_notes import GATEWAY
from plantroom.wire import spans
from plantroom.wire.ranges import RangeSet

BODY = "UPDATE reading SET body = ? WHERE seq = ?"


def play(make_rig: Any, lab: Any, change: Any, count: int = 1_500) -> list[Any]:
    async def scenario() -> list[Any]:
        rig = make_rig()
        await rig.start()
        for first in range(0, count, 500):
            await rig.receive(lab.pack(map(lab.reading, range(first, first + 500))))
        assert await rig.database.read(lambda sql: list(verifying.altered(sql))) == []
        await rig.database.write(change)
        found: list[Any] = await rig.database.read(lambda sql: list(verifying.altered(sql)))
        return found

    return asyncio.run(scenario())


def test_one_changed_byte_is_named_by_device_epoch_and_seq(make_rig: Any, lab: Any) -> None:
    body = bytearray(lab.reading(1_234).canonical())
    body[-3] ^= 1
    found = play(make_rig, lab, lambda sql: sql.execute(BODY, (bytes(body), 1_234)) and None)
    assert found == [(lab.device(), 7, 1_234, 1_234, verifying.ROWS)]


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x80", b"\xa0"])
def test_bytes_that_are_no_reading_are_named_too(make_rig: Any, lab: Any, body: bytes) -> None:
    found = play(make_rig, lab, lambda sql: sql.execute(BODY, (body, 3)) and None, 500)
    assert found == [(lab.device(), 7, 3, 3, verifying.ROWS)]


def test_a_reading_changed_together_with_its_hash_is_found_by_its_segment(
    make_rig: Any, lab: Any
) -> None:
    body = lab.reading(1_234, value=99.0).canonical()

    def change(sql: Any) -> None:
        digest = hashlib.sha256(body).digest()
        sql.execute("UPDATE reading SET body = ?, hash = ? WHERE seq = 1234", (body, digest))

    assert play(make_rig, lab, change) == [(lab.device(), 7, 1_000, 1_999, verifying.ROWS)]


def test_history_that_went_away_is_no_alteration(make_rig: Any, lab: Any) -> None:
    def change(sql: Any) -> None:
        spans.add(sql, (1, STORED), 0, 698)
        move(sql, range(1, 700), CONFIRMED)
        remove(sql, range(1, 650))

    assert play(make_rig, lab, change) == []


def test_what_was_evicted_or_quarantined_is_not_in_the_sum(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(150))))
        await rig.receive(lab.pack([lab.reading(120, value=9.0)]))
        assert await rig.database.read(lambda sql: list(verifying.altered(sql))) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "range_"),
    [
        ("UPDATE reading SET state = 3 WHERE seq = 120", (120, 120)),
        ("UPDATE reading SET size = size + 1 WHERE seq = 120", (120, 120)),
        ("UPDATE span SET last = last + 5 WHERE kind = 2", (50, 54)),
        ("UPDATE span SET reason = 'age' WHERE kind = 2", (0, 49)),
        ("UPDATE note SET body = CAST(hex(body) AS BLOB)", None),
        ("UPDATE note SET number = number + 100", (0, 49)),
        ("UPDATE quarantine SET raw = CAST(hex(raw) AS BLOB)", (140, 140)),
    ],
)
def test_tombstones_states_and_quarantine_are_compared_too(
    make_rig: Any, lab: Any, change: str, range_: tuple[int, int] | None
) -> None:
    async def scenario() -> list[Any]:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(150))))
        await rig.receive(lab.pack([lab.reading(140, value=9.0)]))
        assert await rig.database.read(lambda sql: list(verifying.altered(sql))) == []
        await rig.database.write(lambda sql: sql.execute(change) and None)
        found: list[Any] = await rig.database.read(lambda sql: list(verifying.altered(sql)))
        return found

    found = asyncio.run(scenario())
    assert found
    assert {each.device for each in found} <= {lab.device(), GATEWAY}
    if range_ is not None:
        assert (7, *range_) in {each[1:4] for each in found}


def test_what_should_wait_and_has_no_row_is_missing(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(20))))
        queued = RangeSet([(0, 19)])
        look = partial(verifying.missing, device=lab.device(), epoch=7, queued=queued)
        assert not await rig.database.read(look)
        await rig.database.write(
            lambda sql: sql.execute("DELETE FROM reading WHERE seq IN (3, 4)") and None
        )
        await rig.database.write(lambda sql: move(sql, [8], CONFIRMED))
        assert list(await rig.database.read(look)) == [(3, 4), (7, 7)]

    asyncio.run(scenario())
