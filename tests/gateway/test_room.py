import asyncio
from typing import Any

import pytest

from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.room import is_full, limits_of
from plantroom.gateway.settings import read
from plantroom.gateway.tables import Depth


async def confirm(rig: Any, *seqs: int) -> None:
    from plantroom.gateway import tables

    ids = [
        row[0]
        for seq in seqs
        for row in await rig.sql("SELECT id FROM reading WHERE seq = ? ORDER BY id", seq)
    ]
    await rig.database.write(lambda sql: tables.move(sql, ids, CONFIRMED))


def test_reject_holds_publishes_until_there_is_room(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100)
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(99))))
        assert rig.held == []
        await rig.receive(lab.pack([lab.reading(99)]))
        assert rig.held == [True]
        assert len(await rig.seqs()) == 100  # nothing is evicted
        await confirm(rig, *range(2))
        assert await rig.queue.tidy() is True  # not yet: refusing ends at the low-water mark
        await confirm(rig, *range(2, 10))
        assert await rig.queue.tidy() is False
        assert await rig.notes() == []

    asyncio.run(scenario())


def test_confirmed_readings_go_first_and_are_no_eviction(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(90))))
        await confirm(rig, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59)
        await rig.receive(lab.pack(map(lab.reading, range(90, 110))))
        assert await rig.notes() == []
        assert set(range(50)) < set(await rig.seqs())
        assert not set(range(50, 60)) & set(await rig.seqs())
        await rig.check()

    asyncio.run(scenario())


def test_oldest_evicts_with_tombstones_but_not_what_is_in_the_air(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(100))))
        await rig.queue.connected([])
        taken = await rig.queue.take("backfill", readings_max=5, bytes_max=9999, notes_max=0)
        assert [row.seq for row in taken.rows] == [0, 1, 2, 3, 4]
        await rig.receive(lab.pack(map(lab.reading, range(100, 110))))
        book = await rig.book()
        assert book["evicted"] == [[5, 14]]
        assert book["reasons"] == {"evicted(full)": 10}
        assert {(n.kind, n.first, n.last, n.reason) for n in await rig.notes()} == {
            ("evicted", 5, 14, "full")
        }
        held = [n for n in range(110) if not 5 <= n <= 14]
        assert await rig.seqs() == held
        total = sum(int.from_bytes(lab.reading(n).hash()) for n in held) % (1 << 256)
        assert book["digests"] == {0: total.to_bytes(32).hex()}
        assert rig.held == []
        await rig.check()

    asyncio.run(scenario())


def test_newest_does_not_queue_what_arrives_and_says_so(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="newest")
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(95))))
        await rig.receive(lab.pack(map(lab.reading, range(95, 110))))
        assert await rig.seqs() == list(range(100))
        book = await rig.book()
        assert book["evicted"] == [[100, 109]]
        assert book["received"] == [[0, 109]]
        assert rig.held == []
        await confirm(rig, *range(50))
        await rig.receive(lab.pack(map(lab.reading, range(105, 112))))
        book = await rig.book()
        assert book["evicted"] == [[100, 104]]  # what came again after all is no longer evicted
        assert {105, 111} <= set(await rig.seqs())
        await rig.check()

    asyncio.run(scenario())


@pytest.mark.parametrize("jump_us", [0, 10**15])
def test_age_counts_running_time_not_the_wall_clock(make_rig: Any, lab: Any, jump_us: int) -> None:
    async def scenario() -> None:
        rig = make_rig(age_us_max=1_000_000_000)
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(3))))
        wall_us = rig.clock.wall_us
        rig.clock.wall_us = lambda: wall_us() + jump_us
        await rig.queue.tidy()
        assert len(await rig.seqs()) == 3
        await rig.restart()  # time while it is off does not count either
        await rig.queue.tidy()
        assert len(await rig.seqs()) == 3
        rig.clock.skipped_us += 1_000_000_001
        await rig.queue.tidy()
        assert await rig.seqs() == []
        assert (await rig.book())["reasons"] == {"evicted(age)": 3}

    asyncio.run(scenario())


def test_a_short_disk_refuses_and_gives_up_history(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig(disk_free_bytes_min=1 << 30)
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(50))))
        await confirm(rig, *range(40))
        rig.disk_free = 0
        assert await rig.queue.tidy() is True
        assert await rig.seqs() == list(range(40, 50))
        rig.disk_free = 1 << 40
        assert await rig.queue.tidy() is False

    asyncio.run(scenario())


def test_a_small_disk_is_used_too() -> None:
    settings = read(None, {})
    wanted = settings.queue.disk_free_bytes_min
    assert limits_of(settings).disk_free_bytes_min == wanted
    assert limits_of(settings, disk_bytes=1 << 40).disk_free_bytes_min == wanted
    assert limits_of(settings, disk_bytes=24 << 20).disk_free_bytes_min == 3 << 20


def test_full_has_a_high_and_a_low_mark(lab: Any) -> None:
    limits = lab.limits(readings_max=1000, bytes_max=1000)
    assert is_full(limits, Depth(readings=1000), 1, refusing=False)
    assert not is_full(limits, Depth(readings=999), 1, refusing=False)
    assert is_full(limits, Depth(readings=999), 1, refusing=True)
    assert not is_full(limits, Depth(readings=900), 1, refusing=True)
    assert is_full(limits, Depth(bytes=1000), 1, refusing=False)
