"""What the sensors of a storm produce: recordings made from a seed, and the mapping to replay them.

A recording can be listed by anybody afterwards, which a simulated sensor's readings cannot.
"""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

ROWS_PER_MINUTE: Final = 60  # of recorded time
_BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
_MAPPING: Final = """\
[[mapping]]
name = "storm"
device = "storm-001"
kind = "hvac"
place = "Laboratory"
description = "A recording made for a storm"
time = { column = "date", format = "iso", timezone = "UTC" }

[mapping.columns]
temperature = { unit = "Cel" }
humidity = { unit = "%RH" }
power = { unit = "W" }
"""


def device_name(number: int) -> str:
    """Return the name that `up` gives to the sensor of the recording with this number."""
    return f"storm-{number:03}"


def write(folder: Path, *, seed: int, sensors: int, rows: int) -> tuple[list[Path], Path]:
    """Write a recording for each sensor, and the mapping that fits them all; return both."""
    recordings = [_recording(folder, seed, number, rows) for number in range(1, sensors + 1)]
    mapping = folder / "storm.toml"
    mapping.write_text(_MAPPING, encoding="utf-8")
    return recordings, mapping


def _recording(folder: Path, seed: int, number: int, rows: int) -> Path:
    chance = random.Random(f"recording {seed} {number}")  # noqa: S311 -- replayable on purpose
    path = folder / f"{device_name(number)}.csv"
    temperature, humidity = 20.0, 40.0
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("date,temperature,humidity,power\n")
        for row in range(rows):
            time = _BEGIN + timedelta(minutes=row / ROWS_PER_MINUTE)
            temperature = round(temperature + chance.uniform(-0.1, 0.1), 3)
            humidity = round(humidity + chance.uniform(-0.2, 0.2), 2)
            power = chance.choice((0, 120, 1500, 2200))
            file.write(f"{time:%Y-%m-%d %H:%M:%S},{temperature},{humidity},{power}\n")
    return path
