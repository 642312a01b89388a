"""The judge of a replay: the CSV itself, read without any of the product's code.

It lists what a recording holds, row by row and value by value, and compares that with what
`plantroom readings export` prints, at the precision of a double. It knows nothing of epochs except
that a later one comes later.
"""

import csv
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Verdict:
    """How the export differs from the recording; all zero is a pass."""

    rows: int
    values: int
    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    misordered: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not (self.lost or self.duplicated or self.misordered or self.altered)

    def __str__(self) -> str:
        counts = " ".join(
            f"{name}={len(getattr(self, name))}"
            for name in ("lost", "duplicated", "misordered", "altered")
        )
        first = next(iter((*self.lost, *self.duplicated, *self.misordered, *self.altered)), "")
        return f"rows={self.rows} values={self.values} {counts} {first}".rstrip()


def recorded(path: Path, *, limit: int | None = None) -> list[Row]:
    """List the rows of a recording: its time as RFC 3339, and its cells by column."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader)
        return [_row(header, cells) for cells in itertools.islice(reader, limit)]


def _row(header: Sequence[str], cells: Sequence[str]) -> Row:
    surplus = len(cells) - len(header)  # R writes a row number that has no name
    named = dict(zip(header, (cell.strip() for cell in cells[surplus:]), strict=True))
    return f"{named.pop('date').replace(' ', 'T')}Z", named


def exported(lines: Iterable[str], device: str) -> list[Row]:
    """List the readings of a device in the order of the export, points together."""
    rows = (row for row in csv.DictReader(lines) if row["device"] == device)
    return [
        (points[0]["time"], {point["point"]: point["value"] for point in points})
        for points in _readings(rows)
    ]


def _readings(rows: Iterator[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    for _, points in itertools.groupby(rows, key=lambda row: (int(row["epoch"]), int(row["seq"]))):
        yield list(points)


def judge(wanted: Sequence[Row], found: Sequence[Row]) -> Verdict:
    """Compare the recording with the export; rows are told apart by time and values."""
    left = _counted(wanted)
    right = _counted(found)
    lost: list[str] = []
    duplicated: list[str] = []
    altered: list[str] = []
    for key, count in left.items():
        missing = count - right.get(key, 0)
        if missing > 0:
            near = [other for other in right if other[0] == key[0] and other not in left]
            (altered if near else lost).append(f"{key[0]} {missing}x, instead: {near[:1]}")
    for key, count in right.items():
        surplus = count - left.get(key, 0)
        if surplus > 0 and key in left:
            duplicated.append(f"{key[0]} {surplus}x")
        elif surplus > 0:
            altered.append(f"{key[0]} is not in the recording")
    misordered = []
    if not (lost or duplicated or altered):
        pairs = zip(wanted, found, strict=True)
        misordered = [a[0] for a, b in pairs if _key(a) != _key(b)]
    return Verdict(
        rows=len(wanted),
        values=sum(len(row[1]) for row in wanted),
        lost=tuple(lost),
        duplicated=tuple(duplicated),
        misordered=tuple(misordered),
        altered=tuple(altered),
    )


Key = tuple[str, tuple[tuple[str, float | str], ...]]


def _counted(rows: Iterable[Row]) -> dict[Key, int]:
    counts: dict[Key, int] = {}
    for row in rows:
        key = _key(row)
        counts[key] = counts.get(key, 0) + 1
    return counts


def _key(row: Row) -> Key:
    return row[0], tuple(sorted((name, _value(text)) for name, text in row[1].items()))


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
