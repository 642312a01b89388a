import asyncio
from typing import Any

from plantroom.gateway import tables
from plantroom.gateway.queue_schema import AGAIN, CONFIRMED


def test_moving_and_removing_keeps_the_accounts(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(20))))
        for ids, to in ([1, 2, 3, 9], AGAIN), ([2, 3, 4], CONFIRMED), ([2, 3], CONFIRMED):
            await rig.database.write(lambda sql, ids=ids, to=to: tables.move(sql, ids, to))
            await rig.check()
        await rig.database.write(lambda sql: tables.remove(sql, [3, 4, 5, 99]))
        await rig.check()
        assert len(await rig.seqs()) == 17

    asyncio.run(scenario())


def test_notes_that_are_done_with_are_bounded(make_rig: Any, lab: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tables, "TOLD_NOTES_MAX", 3)

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for n in range(8):
            await rig.receive(lab.pack([], payload=b"\xff%d" % n, user={"range": f"7/{n}/{n}"}))
        await rig.database.write(lambda sql: sql.execute("UPDATE note SET told = 1 WHERE id < 8"))
        await rig.database.write(tables.forget_told_notes)
        left = await rig.sql("SELECT id, told FROM note ORDER BY id")
        assert left == [(6, 1), (7, 1), (8, 0)]

    asyncio.run(scenario())


def test_recent_readings_are_the_newest_of_the_newest_epochs(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for epoch in (5, 6):
            await rig.receive(lab.pack(lab.reading(n, epoch=epoch) for n in range(3)))
        found = await rig.queue.recent(lab.device(), 4)
        wanted = [lab.reading(n, epoch=e).canonical() for e, n in ((6, 2), (6, 1), (6, 0), (5, 2))]
        assert found == wanted

    asyncio.run(scenario())
