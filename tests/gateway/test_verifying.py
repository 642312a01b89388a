import asyncio
import hashlib
from typing import Any

import pytest

from plantroom.gateway import verifying
from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.tables import move

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
    assert found == [(lab.device(), 7, (1_234, 1_234))]


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x80", b"\xa0"])
def test_bytes_that_are_no_reading_are_named_too(make_rig: Any, lab: Any, body: bytes) -> None:
    found = play(make_rig, lab, lambda sql: sql.execute(BODY, (body, 3)) and None, 500)
    assert found == [(lab.device(), 7, (3, 3))]


def test_a_reading_changed_together_with_its_hash_is_found_by_its_segment(
    make_rig: Any, lab: Any
) -> None:
    body = lab.reading(1_234, value=99.0).canonical()

    def change(sql: Any) -> None:
        digest = hashlib.sha256(body).digest()
        sql.execute("UPDATE reading SET body = ?, hash = ? WHERE seq = 1234", (body, digest))

    assert play(make_rig, lab, change) == [(lab.device(), 7, (1_000, 1_999))]


def test_history_that_went_away_is_no_alteration(make_rig: Any, lab: Any) -> None:
    def change(sql: Any) -> None:
        move(sql, range(1, 700), CONFIRMED)
        sql.execute("DELETE FROM reading WHERE id < 700")

    assert play(make_rig, lab, change) == []


def test_what_was_evicted_or_quarantined_is_not_in_the_sum(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(150))))
        await rig.receive(lab.pack([lab.reading(120, value=9.0)]))
        assert await rig.database.read(lambda sql: list(verifying.altered(sql))) == []

    asyncio.run(scenario())
