import asyncio
from pathlib import Path
from typing import Any

from plantroom.gateway.holding import FULL, NO_RESERVE, Holding
from plantroom.gateway.measures import Measures, Sources
from plantroom.gateway.state_folder import Reserve, StateFolder
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

    asyncio.run(scenario())
