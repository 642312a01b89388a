"""Deliveries of readings, notes, and real recordings, as the cloud gets them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plantroom.cloud.store import Delivery
from plantroom.wire.envelope import Batch, Note
from plantroom.wire.reading import Point, Reading, Value

DATA = Path(__file__).parents[3] / "shared" / "data"
SITE = "building-1"
DEVICE = "spiffe://building-1.smart.local/agent/hvac-001"
T0_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000


def reading(
    seq: int,
    *,
    device: str = DEVICE,
    epoch: int = 1,
    time_us: int | None = -1,
    mono_us: int | None = None,
    **points: Value,
) -> Reading:
    values = points or {"temperature": 20.0 + seq / 10, "fan_status": "on", "motion": True}
    return Reading(
        device=device,
        epoch=epoch,
        seq=seq,
        time_us=T0_US + seq * MINUTE_US if time_us == -1 else time_us,
        mono_us=mono_us,
        points=tuple(
            Point(name=name, unit="Cel" if name == "temperature" else None, value=value)
            for name, value in values.items()
        ),
    )


def delivery(  # noqa: PLR0913 -- a delivery's parts, each with its default
    readings: Iterable[Reading] = (),
    *,
    notes: Iterable[Note] = (),
    number: int = 1,
    site: str = SITE,
    received_us: int = T0_US + 10**12,
    heads: dict[str, dict[int, int]] | None = None,
) -> Delivery:
    return Delivery(
        site=site,
        gateway="gateway",
        batch=Batch(
            incarnation=7,
            number=number,
            lane="live",
            readings=tuple(readings),
            notes=tuple(notes),
            heads=heads or {},
        ),
        received_us=received_us,
    )


def note(kind: str, number: int, first: int, last: int, **other: object) -> Note:
    values: dict[str, object] = {
        "author": "sensor",
        "life": 1,
        "device": DEVICE,
        "epoch": 1,
        "reason": "oldest",
        "at_us": T0_US,
    }
    return Note(kind=kind, number=number, first=first, last=last, **(values | other))  # type: ignore[arg-type]


def recording(name: str) -> Sequence[Sequence[str]]:
    """The rows of a real recording, as text, its header first."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not there: ../shared/data relative to the repository")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, skipinitialspace=True))


def recorded(
    rows: Sequence[Sequence[str]], *, device: str, epoch: int
) -> Iterator[tuple[Reading, dict[str, str]]]:
    """Readings of a recording, each with its texts by column; what is no number stays text."""
    header = [name.strip() for name in rows[0]]
    for seq, row in enumerate(rows[1:]):
        cells = [cell.strip() for cell in row[len(row) - len(header) :]]  # a row number may lead
        texts = dict(zip(header, cells, strict=True))
        time = datetime.fromisoformat(texts.pop("date")).replace(tzinfo=UTC)
        yield (
            Reading(
                device=device,
                epoch=epoch,
                seq=seq,
                time_us=int(time.timestamp()) * 1_000_000,
                points=tuple(
                    Point(name=name, unit=None, value=_value(text)) for name, text in texts.items()
                ),
            ),
            texts,
        )


def _value(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text
