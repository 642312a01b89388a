import asyncio
import csv
import json
import sqlite3
from pathlib import Path

import pytest

from plantroom.cloud.sqlite_store import SqliteStore
from plantroom.cloud.store import Delivery
from plantroom.lab.layout import Layout
from plantroom.wire.envelope import Batch
from plantroom.wire.reading import Reading
from tests.cli.conftest import Run
from tests.fakes.readings import HVAC, TAKEN_AT_US, hvac_reading


class Stored:
    """A cloud store without a running cloud."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.store
        self.path.parent.mkdir(parents=True)

    def put(self, *readings: Reading, highest: int | None = None) -> None:
        heads = {} if highest is None else {HVAC: {7: highest}}
        batch = Batch(incarnation=1, number=0, lane="live", readings=readings, heads=heads)
        delivery = Delivery(
            site="building-1", gateway="gateway", batch=batch, received_us=TAKEN_AT_US
        )

        async def commit() -> None:
            store = SqliteStore(self.path)
            try:
                await store.commit([delivery])
            finally:
                store.close()

        asyncio.run(commit())


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Layout(tmp_path / "state"))


def test_a_whole_book_closes(run: Run, stored: Stored) -> None:
    stored.put(*map(hvac_reading, range(5)))
    verified = run("ledger", "verify")
    assert (verified.code, verified.out) == (0, "")
    assert json.loads(run("ledger", "verify", "--json").out)["closes"] is True
    (book,) = json.loads(run("ledger", "show", "--json").out)["books"]
    assert (book["device"], book["epoch"], book["closes"]) == (HVAC, 7, True)
    assert (book["cloud"]["first"], book["cloud"]["last"], book["cloud"]["count"]) == (0, 4, 5)
    assert "hvac-001" in run("ledger", "show").out
    assert json.loads(run("ledger", "export").out) == book


def test_a_hole_is_named_by_device_epoch_and_range(run: Run, stored: Stored) -> None:
    stored.put(*map(hvac_reading, (0, 1, 4)), highest=6)
    ran = run("ledger", "verify")
    assert ran.code == 1
    assert f"{HVAC} epoch 7 seq 2 to 3: neither queued nor stored" in ran.out
    assert f"{HVAC} epoch 7 seq 2 to 3" in ran.err
    assert ran.err.count("\n") == 1
    report = json.loads(run("ledger", "verify", "--json").out)
    assert [(fault["first"], fault["last"]) for fault in report["faults"]] == [(2, 3)]
    assert report["at_sensors"] == 2
    stored.put(hvac_reading(0, epoch=8))
    faults = json.loads(run("ledger", "verify", "--json").out)["faults"]
    assert [(fault["first"], fault["last"]) for fault in faults] == [(2, 3), (5, 6)]


def test_a_changed_value_is_found(run: Run, stored: Stored) -> None:
    stored.put(*map(hvac_reading, range(5)))
    with sqlite3.connect(stored.path) as connection:
        connection.execute("UPDATE r SET value = 22.5 WHERE seq = 3 AND value = 24.5")
        assert connection.total_changes == 1
    connection.close()
    ran = run("ledger", "verify")
    assert ran.code == 1
    assert "altered" in ran.out


def test_readings_are_exported_as_rows_of_values(run: Run, stored: Stored) -> None:
    stored.put(*map(hvac_reading, range(2)))
    ran = run("readings", "export", "--device", "hvac-001")
    assert ran.code == 0
    head, *rows = csv.reader(ran.out.splitlines())
    assert ",".join(head) == "time,site,device,point,value,unit,epoch,seq,received_at,late"
    assert rows[0] == [
        *("2025-11-22T14:00:00.123456Z", "building-1", "hvac-001", "fan_on", "true", "", "7", "0"),
        *("2025-11-22T14:00:00.123456Z", "false"),
    ]
    assert [(row[3], row[4], row[5], row[7]) for row in rows[1:]] == [
        ("power_mode", "eco", "", "0"),
        ("temperature", "21.5", "Cel", "0"),
        ("fan_on", "true", "", "1"),
        ("power_mode", "eco", "", "1"),
        ("temperature", "22.5", "Cel", "1"),
    ]


def test_an_export_can_be_narrowed_and_be_json(run: Run, stored: Stored) -> None:
    stored.put(*map(hvac_reading, range(3)))
    ran = run(
        *("readings", "export", "--json"),
        *("--from", "2025-11-22T14:01:00Z", "--to", "2025-11-22T14:02:00Z"),
    )
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert {row["seq"] for row in rows} == {1}
    assert [row["value"] for row in rows] == [True, "eco", 22.5]
    assert run("readings", "export", "--device", "other").out.count("\n") == 1
    assert run("readings", "export", "--from", "yesterday").code == 2


def test_an_export_as_parquet_needs_pyarrow_or_is_parquet(run: Run, stored: Stored) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    assert arrow
    stored.put(hvac_reading())
    assert run("readings", "export", "--format", "parquet").code == 0
