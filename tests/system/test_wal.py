"""One byte changed while nothing runs: of a WAL, of what a sensor has not sent yet.

In a WAL that was never moved into its database SQLite takes the changed frame for the end: what was
committed behind it is gone, and nobody is told. So the books of the others have to say it, and
bring back what they still hold.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.waiting import until
from tests.system.conftest import Building, alive

HOST = "127.0.0.1"
FAST = ("--devices", "1", "--speed", "600")
HVAC = "spiffe://building-1.smart.local/agent/hvac-001"
HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def books(building: Building) -> dict[int, dict[str, Any]]:
    """Return the sensor's books by epoch."""
    found = building.json("ledger", "show", "--json")["books"]
    return {book["epoch"]: book for book in found if book["device"] == HVAC}


def stored(building: Building) -> int:
    return sum(book["cloud"]["count"] for book in books(building).values() if book["cloud"])


def waiting(building: Building) -> int:
    ranges = [span for book in books(building).values() for span in book["queued"]]
    return sum(last - first + 1 for first, last in ranges)


def kill_all(building: Building) -> None:
    """Take the power away: nobody gets round to anything."""
    assert building.up is not None
    pids = building.pids()
    for pid in (building.up.pid, *pids.values()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    building.wait(deadline_s=60)
    until(
        lambda: not any(map(alive, pids.values())), deadline_s=60, what="the end of all processes"
    )


def taken(building: Building, folder: Path) -> dict[int, int]:
    """Return how many readings the sensor has taken, by epoch, from a copy of its outbox."""
    folder.mkdir()
    for path in (building.state / "devices" / "hvac-001").glob("outbox.db*"):
        shutil.copy(path, folder)
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as copy:
        return dict(copy.execute("SELECT epoch, next_seq FROM epoch WHERE next_seq > 0"))


def tear(path: Path, share: float) -> int:
    """Change one byte of a frame of the WAL, that share into it; return how many were behind."""
    wal = path.with_name(path.name + "-wal")
    data = bytearray(wal.read_bytes())
    size = FRAME_HEADER_BYTES + int.from_bytes(data[8:12])
    frames = [
        at
        for at in range(HEADER_BYTES, len(data) - size + 1, size)
        if data[at + 8 : at + 16] == data[16:24]  # of this WAL's salts
    ]
    chosen = int(len(frames) * share)
    data[frames[chosen] + FRAME_HEADER_BYTES + 100] ^= 1
    wal.write_bytes(data)
    return len(frames) - chosen


def accounted(building: Building, wanted: dict[int, int]) -> bool:
    """Say whether each reading that was taken is stored, or excused, or named lost."""
    found = books(building)
    for epoch, count in wanted.items():
        cloud = found[epoch]["cloud"] if epoch in found else None
        known = cloud["count"] + sum(cloud["reasons"].values()) if cloud else 0
        if not cloud or cloud["highest"] + 1 < count or known != cloud["highest"] + 1:
            return False
    return True


@pytest.mark.parametrize(("part", "share"), [("gateway/queue.db", 0.5), ("cloud/store.db", 0.0)])
def test_what_went_with_a_torn_wal_comes_again(
    building: Building, tmp_path: Path, part: str, share: float
) -> None:
    with Proxy(HOST, building.port_base + 3).running() as wan:
        environ = {"PLANTROOM_BRIDGE_ADDRESS": wan.address}
        building.start(*FAST, environ=environ)
        until(lambda: stored(building) >= 20, deadline_s=180, what="stored readings")
        if part.startswith("gateway"):
            wan.cut()
            until(lambda: waiting(building) >= 60, deadline_s=180, what="a queue")
        kill_all(building)
        wanted = taken(building, tmp_path / "outbox")
        assert tear(building.state / part, share) > 0
        wan.restore()
        building.start(*FAST, environ=environ)
        until(lambda: accounted(building, wanted), deadline_s=240, what="an end of each reading")
        report = json.loads(building.run("ledger", "verify", "--json").stdout)
        assert report["closes"], report["faults"]
        counts = {epoch: book["cloud"]["count"] for epoch, book in books(building).items()}
        assert all(counts[epoch] >= count for epoch, count in wanted.items()), (counts, wanted)


def unsent(building: Building) -> list[tuple[int, int]]:
    """Return the epoch and seq of what the sensor has not sent."""
    path = building.state / "devices" / "hvac-001" / "outbox.db"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as outbox:
        return outbox.execute(
            "SELECT epoch, seq FROM reading WHERE state = 0 ORDER BY epoch, seq"
        ).fetchall()


def online(building: Building) -> bool:
    found = building.json("devices", "ls", "--json")["devices"]
    return any(device["online"] for device in found if device["device"] == "hvac-001")


def test_an_unsent_reading_that_was_changed_is_never_stored_and_named_lost(
    building: Building,
) -> None:
    with Proxy(HOST, building.port_base).running() as lan:
        building.start(*FAST, environ={"PLANTROOM_UPLINK_ADDRESS": lan.address})
        until(lambda: stored(building) >= 10, deadline_s=180, what="stored readings")
        lan.cut()
        until(lambda: not online(building), deadline_s=60, what="a sensor that is cut off")
        before = len(unsent(building))  # the first may have arrived, and their answer not
        until(lambda: len(unsent(building)) >= before + 3, deadline_s=60, what="more to send")
        kill_all(building)
    epoch, seq = unsent(building)[-2]
    path = building.state / "devices" / "hvac-001" / "outbox.db"
    with contextlib.closing(sqlite3.connect(path)) as outbox, outbox:
        (pack,) = outbox.execute(
            "SELECT pack FROM reading WHERE epoch = ? AND seq = ?", (epoch, seq)
        ).fetchone()
        other = pack.replace(b"Cel", b"Cem")
        assert other != pack
        outbox.execute(
            "UPDATE reading SET pack = ? WHERE epoch = ? AND seq = ?", (other, epoch, seq)
        )
    building.start(*FAST)

    def named() -> bool:
        faults = json.loads(building.run("ledger", "verify", "--json").stdout)["faults"]
        told = [(each["device"], each["epoch"], each["first"], each["last"]) for each in faults]
        return [each["what"] for each in faults] == ["lost"] and told == [(HVAC, epoch, seq, seq)]

    until(named, deadline_s=180, what="the one reading that is named lost")
    log = (building.state / "logs" / "hvac-001.log").read_text("utf-8")
    assert f"epoch {epoch} seq {seq} to {seq} was changed: it is gone" in log
