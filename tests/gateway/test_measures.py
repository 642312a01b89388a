import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

from plantroom.gateway.holding import FULL, NO_RESERVE, Holding
from plantroom.gateway.measures import Measures, Sources
from plantroom.gateway.queue_schema import CONFIRMED
from plantroom.gateway.state_folder import Reserve, StateFolder
from plantroom.gateway.tables import move
from plantroom.wire.errors import IdentityError, StorageFullError
from plantroom.wire.metrics import Metric, render


class FakeBridge:
    state, connected, in_air, round_trip_s, since_us, last_error = (
        "offline",
        False,
        2,
        0.5,
        0,
        "cut",
    )

    class progress:  # noqa: N801 -- stands for an object
        sent_bytes = sent_readings = imbalances = 0
        synced_us = None


class NoIdentity:
    def current(self) -> Any:
        raise IdentityError("none", reason="no-svid")

    def renewals(self) -> None:
        return None


def make(rig: Any, lab: Any, folder: Path, codes: list[int | None]) -> Measures:
    folder.mkdir(exist_ok=True)
    state = StateFolder(folder)
    sources: Any = {
        "queue": rig.queue,
        "bridge": FakeBridge(),
        "database": rig.database,
        "folder": state,
        "reserve": Reserve(state.reserve, 4096),
        "clock": rig.clock,
        "site": lab.SITE,
        "building": NoIdentity(),
        "cloud": NoIdentity(),
        "holding": Holding(codes.append),
        "policy": lambda: {"revision": "r1"},
        "others": lambda: [Metric("other_total", "counter", "Other", 1)],
    }
    return Measures(Sources(**sources))


def test_metrics_and_status_say_what_is_queued_and_why(
    make_rig: Any, lab: Any, tmp_path: Path
) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100, policy="oldest")
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", [])
        await rig.receive(lab.pack(map(lab.reading, range(103))))
        await measures._measure()
        text = render(measures.metrics())
        assert 'plantroom_queue_readings{lane="backfill"} 0' in text
        assert 'plantroom_queue_readings{lane="live"} 100' in text
        assert 'plantroom_readings_evicted_total{reason="full"} 3' in text
        assert 'plantroom_link_state{state="offline"} 1' in text
        assert "plantroom_drain_eta_seconds +Inf" in text
        assert "other_total 1" in text
        status: Any = await measures.status()
        assert status["queue"] == {"live": 100, "backfill": 0, "history": 0}
        assert status["link"]["error"] == "cut"
        assert status["link"]["offline_s"] > 0
        assert status["drain"] == {"per_s": 0.0, "eta_s": None}
        assert (status["evicted"], status["quarantined"]) == ({"full": 3}, {})
        assert status["policy"] == {"revision": "r1"}
        [book] = status["books"]
        assert (book["site"], book["device"], book["holes"]) == (lab.SITE, "hvac-001", [])
        assert (book["count"], book["noted"], book["last"]) == (103, 3, 102)
        assert measures.ready() == ""

    asyncio.run(scenario())


def test_a_full_disk_gives_up_the_reserve_and_refuses_until_it_is_made_again(
    make_rig: Any, lab: Any, tmp_path: Path
) -> None:
    async def scenario() -> None:
        rig, codes = make_rig(), list[int | None]()
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", codes)
        await measures._measure()
        assert codes == []
        assert (tmp_path / "s" / "reserve").exists()
        measures._full(StorageFullError("no space left"))
        assert not (tmp_path / "s" / "reserve").exists()
        assert codes == [0x97]
        assert NO_RESERVE in measures.ready()
        await measures._measure()
        assert codes == [0x97, None]

    asyncio.run(scenario())


def test_a_full_queue_is_not_ready(make_rig: Any, lab: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = make_rig(readings_max=100)
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", [])
        await rig.receive(lab.pack(map(lab.reading, range(100))))
        await measures._measure()
        assert FULL in measures.ready()
        status: Any = await measures.status()
        assert status["refusing_because"] == [FULL]

    asyncio.run(scenario())


def test_while_the_reserve_is_away_nothing_is_derived(
    make_rig: Any, lab: Any, tmp_path: Path
) -> None:
    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", [])
        rig.deriver._holding = measures._from.holding
        measures._full(StorageFullError("no space left"))
        stage = asyncio.create_task(rig.deriver.run())
        await rig.commit(lab.pack(map(lab.reading, range(5))))
        rig.deriver.wake()
        for _ in range(5):
            await rig.sql("SELECT 1")
        assert await rig.seqs() == []
        await measures._measure()
        await lab.until(lambda: bool(rig.derived))
        assert await rig.seqs() == [0, 1, 2, 3, 4]
        stage.cancel()
        await asyncio.gather(stage, return_exceptions=True)

    asyncio.run(scenario())


def test_the_reserve_is_made_from_confirmed_readings_before_anything_else(
    make_rig: Any, lab: Any, tmp_path: Path
) -> None:
    """The disk is full of our own history: nobody else will make room."""

    async def scenario() -> None:
        rig = make_rig()
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", [])
        for first in range(0, 2000, 500):
            await rig.receive(lab.pack(map(lab.reading, range(first, first + 500))))
        await rig.database.write(lambda sql: move(sql, range(1, 2001), CONFIRMED))
        await rig.database.checkpoint()
        before = rig.path.stat().st_size

        def free(_folder: object) -> int:
            return int(before - rig.path.stat().st_size)

        with patch.object(StateFolder, "disk_free", free):
            for _ in range(10):  # a WAL that is being read is truncated the next time
                await measures._measure()
                if (tmp_path / "s" / "reserve").exists():
                    break
                assert measures.ready(), "nothing is taken without a reserve"
        assert (tmp_path / "s" / "reserve").exists()
        assert measures.ready() == ""
        assert rig.path.stat().st_size <= before - 2 * 4096
        assert len(await rig.seqs()) > 1000  # no more than was needed

    asyncio.run(scenario())


def test_a_drain_gives_its_disk_space_back(make_rig: Any, lab: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = make_rig(history_bytes_max=100_000)
        await rig.start()
        measures = make(rig, lab, tmp_path / "s", [])
        await rig.database.write(fill_segment)
        for first in range(0, 2000, 500):
            await rig.receive(lab.pack(map(lab.reading, range(first, first + 500))))
        await rig.database.write(lambda sql: sql.execute("DELETE FROM segment") and None)
        await rig.database.write(lambda sql: move(sql, range(1, 2001), CONFIRMED))
        await rig.database.checkpoint()
        before = rig.path.stat().st_size
        for _ in range(20):
            await measures._measure()
        await rig.database.checkpoint()
        assert rig.path.stat().st_size < before / 2
        assert (await rig.queue.standings()).history.bytes <= 100_000
        await rig.check()

    asyncio.run(scenario())


def fill_segment(sql: sqlite3.Connection) -> None:
    rows = [(bytes(100_000),)] * 300
    sql.executemany("INSERT INTO segment(at_us, tapped, waiting, data) VALUES(0, 0, 0, ?)", rows)
