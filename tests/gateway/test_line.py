import asyncio
from typing import Any

import pytest

from plantroom.gateway import line


def test_live_and_backfill_never_take_the_same_row(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(5))))
        await rig.queue.connected([])
        await rig.receive(lab.pack([lab.reading(n) for n in (7, 6, 8)]))
        taken: dict[str, list[int]] = {}
        for lane in ("live", "backfill", "live", "backfill"):
            batch = await rig.queue.take(lane, readings_max=50, bytes_max=99999, notes_max=0)
            taken.setdefault(lane, []).extend(row.seq for row in batch.rows)
        assert taken == {"live": [7, 8], "backfill": [0, 1, 2, 3, 4, 6]}

    asyncio.run(scenario())


def test_notes_travel_with_backfill_once_at_a_time(make_rig: Any, lab: Any) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        for first in (0, 10, 20):
            garbage = lab.pack([], payload=b"\xff%d" % first, user={"range": f"7/{first}/{first}"})
            await rig.receive(garbage)
        await rig.queue.connected([])
        assert not await rig.queue.take("live", readings_max=5, bytes_max=9999, notes_max=2)
        sizes = []
        for _ in range(3):
            batch = await rig.queue.take("backfill", readings_max=5, bytes_max=9999, notes_max=2)
            sizes.append(len(batch.told))
        assert sizes == [2, 1, 0]

    asyncio.run(scenario())


def test_what_has_outgrown_the_live_lane_is_counted_as_backfill(
    make_rig: Any, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "_LIVE_COUNTED_MAX", 5)

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        await rig.receive(lab.pack(map(lab.reading, range(5))))
        now = await rig.queue.standings()
        assert (now.live.readings, now.backfill.readings) == (5, 0)
        assert now.live.bytes == now.waiting.bytes > 0
        await rig.receive(lab.pack([lab.reading(5)]))
        now = await rig.queue.standings()
        assert (now.live.readings, now.backfill.readings) == (0, 6)
        assert now.backfill.bytes == now.waiting.bytes

    asyncio.run(scenario())
