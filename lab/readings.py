"""Stored readings as rows of text, and as a Parquet file."""

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO

from plantroom.cloud.store import Row
from plantroom.wire.errors import UsageError
from plantroom.wire.reading import KEY_MAX, Value
from plantroom.wire.rfc3339 import format_us

COLUMNS = (
    "time",
    "site",
    "device",
    "point",
    "value",
    "unit",
    "epoch",
    "seq",
    "received_at",
    "late",
)
CHUNK_ROWS = 50_000


def texts(row: Row) -> tuple[str, ...]:
    """Write a row in the order of `COLUMNS`."""
    return (
        "" if row.time_us is None else format_us(row.time_us),
        row.site,
        row.device,
        row.point,
        value_text(row.value),
        row.unit or "",
        str(row.epoch),
        str(row.seq),
        format_us(row.received_us),
        "true" if row.late else "false",
    )


def plain(row: Row) -> dict[str, object]:
    """Return a row as JSON: values, numbers and flags as what they are."""
    return {
        **dict(zip(COLUMNS, texts(row), strict=True)),
        "time": None if row.time_us is None else format_us(row.time_us),
        "value": row.value,
        "unit": row.unit,
        "epoch": row.epoch,
        "seq": row.seq,
        "late": row.late,
    }


def value_text(value: Value) -> str:
    """Write a value so that it reads back as the same; whole numbers without a fraction."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) <= KEY_MAX:
        return str(int(value))
    return str(value)


def write_parquet(chosen: Iterator[Row], file: BinaryIO) -> None:
    """Write rows as Parquet: times as timestamps, values as doubles, and as `text` where not.

    Raises:
        UsageError: when pyarrow is not installed.
    """
    try:
        arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow", remedy="install plantroom[parquet], or use --format csv"
        ) from error
    time = arrow.timestamp("us", tz="UTC")
    kinds = dict.fromkeys(COLUMNS, arrow.string()) | {
        "time": time,
        "received_at": time,
        "value": arrow.float64(),
        "epoch": arrow.int64(),
        "seq": arrow.int64(),
        "late": arrow.bool_(),
        "text": arrow.string(),
    }
    schema = arrow.schema(list(kinds.items()))
    with parquet.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(chosen, CHUNK_ROWS)):
            writer.write_table(arrow.Table.from_pylist(list(map(_typed, chunk)), schema=schema))


def _typed(row: Row) -> dict[str, Any]:
    is_text = isinstance(row.value, str)
    return {
        "time": row.time_us,
        "site": row.site,
        "device": row.device,
        "point": row.point,
        "value": None if is_text else float(row.value),
        "unit": row.unit,
        "epoch": row.epoch,
        "seq": row.seq,
        "received_at": row.received_us,
        "late": row.late,
        "text": row.value if is_text else None,
    }
