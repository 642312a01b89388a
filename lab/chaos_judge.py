"""The judge of a storm: a program of its own that shares no code with what it judges.

It has its own list of what the sensors produced (the recordings that were replayed), asks for what
was stored with `plantroom readings export`, and compares value by value. It knows nothing of
queues, receipts and books. `python -m plantroom.lab.chaos_judge STATE DEVICE=CSV…` prints its
verdict as one JSON document. Standard library only.
"""

import csv
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

EXPORT_S = 600.0
NAMED_MAX = 5

Row = tuple[str, tuple[tuple[str, float], ...]]  # a time, and every value by its point


def produced(path: Path) -> list[Row]:
    """List the rows of a recording."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            (f"{row.pop('date').replace(' ', 'T')}Z", _values(row)) for row in csv.DictReader(file)
        ]


def _values(row: dict[str, str]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((name, float(text)) for name, text in row.items()))


def stored(lines: Iterable[str]) -> Iterator[Row]:
    """Give the readings of an export of one device, in its order; a reading is one (epoch, seq)."""
    rows = csv.DictReader(lines)
    for _, points in itertools.groupby(rows, key=lambda row: (row["epoch"], row["seq"])):
        found = list(points)
        values = {point["point"]: point["value"] for point in found}
        if len(values) < len(found):  # a point twice in one reading
            yield found[0]["time"], ()
        yield found[0]["time"], _values(values)


def compare(wanted: Sequence[Row], found: Sequence[Row]) -> dict[str, list[str]]:
    """Return what is lost, duplicated, misordered and altered, by the time of the reading."""
    left, right = Counter(wanted), Counter(found)
    strange = Counter({row: count for row, count in right.items() if row not in left})
    strange_times = Counter(time for time, _ in strange.elements())
    lost, altered = [], []
    for row, count in left.items():
        for _ in range(count - right[row]):
            if strange_times[row[0]] > 0:
                strange_times[row[0]] -= 1
                altered.append(row[0])
            else:
                lost.append(row[0])
    altered += [f"{time} was never produced" for time in (+strange_times).elements()]
    extra = right - left
    duplicated = [row[0] for row in extra.elements() if row in left]
    return {
        "lost": lost,
        "duplicated": duplicated,
        "misordered": _misordered(wanted, found),
        "altered": altered,
    }


def _misordered(wanted: Sequence[Row], found: Sequence[Row]) -> list[str]:
    """Name the readings that come before one that was taken earlier."""
    place: dict[Row, list[int]] = {}
    for number, row in enumerate(wanted):
        place.setdefault(row, []).append(number)
    newest, wrong = -1, []
    for row in found:
        numbers = place.get(row)
        if not numbers:
            continue
        number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
        if number < newest:
            wrong.append(row[0])
        newest = max(newest, number)
    return wrong


def exported(state: Path, device: str) -> list[Row]:
    """Ask the product for what is stored of a device."""
    done = subprocess.run(  # noqa: S603 -- the product's own command line
        [
            *(sys.executable, "-m", "plantroom.cli.main", "readings", "export"),
            *("--device", device, "--state", str(state)),
        ],
        capture_output=True,
        text=True,
        timeout=EXPORT_S,
        check=True,
    )
    return list(stored(done.stdout.splitlines()))


def main(words: Sequence[str]) -> int:
    """Judge; 1 when anything is wrong."""
    state, pairs = Path(words[0]), [word.split("=", 1) for word in words[1:]]
    counts: Counter[str] = Counter()
    named: dict[str, list[str]] = {}
    for device, path in pairs:
        wanted, found = produced(Path(path)), exported(state, device)
        counts.update(readings=len(wanted), stored=len(found))
        for word, what in compare(wanted, found).items():
            counts[word] += len(what)
            if what:
                named.setdefault(word, []).extend(f"{device} {one}" for one in what[:NAMED_MAX])
    wrong = any(counts[word] for word in ("lost", "duplicated", "misordered", "altered"))
    sys.stdout.write(json.dumps({"passed": not wrong, **counts, "named": named}) + "\n")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
