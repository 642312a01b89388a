import io
from datetime import UTC, datetime

import pytest

from plantroom.cloud.store import Row
from plantroom.lab import readings
from plantroom.wire.errors import UsageError
from plantroom.wire.reading import Value

ROW = Row(
    time_us=1_423_072_260_500_000,
    site="building-1",
    device="hvac-001",
    point="temperature",
    value=23.18,
    unit="Cel",
    epoch=7,
    seq=3,
    received_us=1_423_072_261_000_000,
    late=True,
)


def test_a_row_as_text_is_in_the_order_of_the_columns() -> None:
    assert dict(zip(readings.COLUMNS, readings.texts(ROW), strict=True)) == {
        "time": "2015-02-04T17:51:00.5Z",
        "site": "building-1",
        "device": "hvac-001",
        "point": "temperature",
        "value": "23.18",
        "unit": "Cel",
        "epoch": "7",
        "seq": "3",
        "received_at": "2015-02-04T17:51:01Z",
        "late": "true",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (21.0, "21"),
        (-0.1, "-0.1"),
        (45.410389499738812447, "45.41038949973881"),
        (1e300, "1e+300"),
        (2**62 + 1, "4611686018427387905"),
        (True, "true"),
        ("", ""),
        ("eco", "eco"),
    ],
)
def test_a_value_reads_back_as_the_same(value: Value, text: str) -> None:
    assert readings.value_text(value) == text
    if isinstance(value, float):
        assert float(text) == value


def test_a_row_as_json_keeps_its_types() -> None:
    found = readings.plain(ROW)
    assert (found["value"], found["epoch"], found["late"]) == (23.18, 7, True)
    assert tuple(found) == readings.COLUMNS


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(readings, "import_module", missing)
    with pytest.raises(UsageError, match=r"plantroom\[parquet\]"):
        readings.write_parquet(iter([ROW]), io.BytesIO())


def test_parquet_keeps_times_and_numbers() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    file = io.BytesIO()
    readings.write_parquet(iter([ROW]), file)
    (row,) = parquet.read_table(io.BytesIO(file.getvalue())).to_pylist()
    assert row["time"] == datetime(2015, 2, 4, 17, 51, 0, 500_000, UTC)
    assert (row["value"], row["text"], row["seq"]) == (23.18, None, 3)
