import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from plantroom.lab.layout import Layout
from tests.cli.conftest import Run
from tests.fakes.readings import hvac_reading
from tests.fakes.stored import put


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Layout(tmp_path / "state").store


def test_readings_are_exported_as_rows_of_values(run: Run, store: Path) -> None:
    put(store, *map(hvac_reading, range(2)))
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


def test_an_export_can_be_narrowed_and_be_json(run: Run, store: Path) -> None:
    put(store, *map(hvac_reading, range(3)))
    ran = run(
        *("readings", "export", "--json"),
        *("--from", "2025-11-22T14:01:00Z", "--to", "2025-11-22T14:02:00Z"),
    )
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert {row["seq"] for row in rows} == {1}
    assert [row["value"] for row in rows] == [True, "eco", 22.5]
    assert run("readings", "export", "--device", "other").out.count("\n") == 1
    assert run("readings", "export", "--from", "yesterday").code == 2


def test_an_export_as_parquet_can_be_read_by_others(store: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    put(store, *map(hvac_reading, range(2)))
    words = ("readings", "export", "--format", "parquet", "--state", str(tmp_path / "state"))
    done = subprocess.run(
        [sys.executable, "-m", "plantroom.cli.main", *words], capture_output=True, check=True
    )
    rows = parquet.read_table(io.BytesIO(done.stdout)).to_pylist()
    assert [(row["point"], row["value"], row["text"]) for row in rows[:3]] == [
        ("fan_on", 1.0, None),
        ("power_mode", None, "eco"),
        ("temperature", 21.5, None),
    ]
    assert [row["seq"] for row in rows] == [0, 0, 0, 1, 1, 1]
