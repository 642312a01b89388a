import asyncio
import sqlite3
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plantroom.gateway import numbering
from plantroom.gateway.queue_schema import MIGRATIONS
from plantroom.wire import cbor
from plantroom.wire.reading import Point, Sample

NOW_US = 1_790_000_000_000_000


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in MIGRATIONS["queue"]:
        connection.executescript(script)
    return connection


@given(st.integers(0, 2**52), st.integers(0, 4 * 10**15), st.integers(0, 2**64))
def test_an_epoch_is_above_the_last_one_and_safe_in_json(last: int, wall: int, dice: int) -> None:
    epoch = numbering.new_epoch(last, wall, dice)
    assert last < epoch < 2**53
    assert epoch >> 20 == max(
        (last >> 20) + 1, wall // 10**6 if wall >= 1_767_225_600_000_000 else 0
    )


def test_the_same_packet_again_is_a_redelivery_only_with_dup_and_the_same_payload() -> None:
    sql = database()
    assert not numbering.is_redelivery(sql, ("s", 1, False, b"h"), 1)
    assert numbering.is_redelivery(sql, ("s", 1, True, b"h"), 2)
    assert not numbering.is_redelivery(sql, ("s", 1, True, b"other"), 3)
    assert not numbering.is_redelivery(sql, ("s", 1, False, b"other"), 4)
    assert not numbering.is_redelivery(sql, ("t", 1, True, b"other"), 5)


def test_the_memory_of_deliveries_is_bounded() -> None:
    sql = database()
    numbering.is_redelivery(sql, ("s", 1, False, b"h"), 1)
    numbering.forget_old_deliveries(sql, 200_001)
    assert sql.execute("SELECT count(*) FROM unnumbered").fetchone() == (1,)
    numbering.forget_old_deliveries(sql, 200_002)
    assert sql.execute("SELECT count(*) FROM unnumbered").fetchone() == (0,)


def test_numbers_go_on_within_a_start_and_begin_anew_with_the_next() -> None:
    sql = database()
    sample = Sample(device="", time_us=None, points=(Point(name="t", unit=None, value=1.0),))

    def number(incarnation: int, count: int) -> list[tuple[int, int]]:
        rows, bad = numbering.number(
            sql,
            "spiffe://d/agent/x",
            [sample] * count,
            incarnation=incarnation,
            fresh_epoch=lambda last: last + 1,
            now_us=NOW_US,
        )
        assert not bad
        return [(row.epoch, row.seq) for row in rows]

    assert number(5, 2) == [(1, 0), (1, 1)]
    assert number(5, 1) == [(1, 2)]
    assert number(6, 1) == [(2, 0)]


def test_what_a_call_gave_before_is_known_by_any_of_its_names(make_rig: Any, lab: Any) -> None:
    names = (b"k" * 32, b"c" * 32)
    payload = cbor.dumps([{-2: lab.device() + "/", -3: NOW_US / 1e6, 0: "t", 2: 20.0}])

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for chosen in (names, names[:1], names[1:], (b"z" * 32,)):
            user = {"given": " ".join(name.hex() for name in chosen)}
            await rig.receive(lab.pack([], payload=payload, user=user))
        assert (await rig.queue.standings()).waiting.readings == 2
        assert await rig.queue.was_given(lab.device(), names[1:])
        assert not await rig.queue.was_given(lab.device("hvac-002"), names)

    asyncio.run(scenario())
