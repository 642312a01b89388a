import asyncio
from pathlib import Path
from typing import Any

from plantroom.gateway import salvaging


def test_a_file_is_waited_for_until_it_is_done_and_blamed_until_it_is_away(
    make_rig: Any, lab: Any
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        files = [Path("queue.db.damaged-1"), Path("queue.db.damaged-2")]

        def states(sql: Any) -> list[Any]:
            found: list[Any] = []

            def note() -> None:
                found.append((salvaging.is_under_way(sql), salvaging.file_at_fault(sql)))

            salvaging.begin(sql, [])
            note()
            salvaging.begin(sql, files)
            note()
            salvaging.done(sql, files[0], files)
            assert salvaging.unsalvaged(sql, files) == files[1:]
            note()
            salvaging.done(sql, files[1], files)
            note()
            salvaging.begin(sql, [])
            note()
            salvaging.book(sql, [(lab.device(), 7, 5), (lab.device(), -1, 5)], [])
            return found

        assert await rig.database.write(states) == [
            (False, None),
            (True, "queue.db.damaged-2"),
            (True, "queue.db.damaged-2"),
            (False, "queue.db.damaged-2"),
            (False, None),
        ]
        [book] = await rig.queue.ledger()
        assert book["highest"] == 5

    asyncio.run(scenario())
