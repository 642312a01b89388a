"""What an unknown recording's columns seem to be: a proposal for a person, never a decision."""

import re
from collections.abc import Callable, Sequence

from plantroom.device import instants
from plantroom.wire.errors import UsageError
from plantroom.wire.reading import POINTS_MAX

ROWS_LOOKED_AT = 200
NEARLY_ALL = 0.9  # a few broken cells hide neither the times nor the numbers of a column
_FORMATS = (
    instants.ISO,
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p",
    instants.UNIX,
    instants.UNIX_MS,
)
_1990_US, _2100_US = 631_152_000_000_000, 4_102_444_800_000_000
# Units are from the SenML registries (RFC 8428, RFC 8798); the first pattern that fits counts.
_UNITS = (
    (r"ratio", "/"),
    (r"rh|humid", "%RH"),
    (r"temp|^t\d|^t_|dew", "Cel"),
    (r"co2|ppm|voc", "ppm"),
    (r"lux|light|illum", "lx"),
    (r"kwh", "kWh"),
    (r"\bwh\b|energy|appliance", "Wh"),
    (r"watt|power|demand", "W"),
    (r"rpm|fan.?speed", "1/min"),
    (r"wind.?speed|velocity", "m/s"),
    (r"press.*mm.?hg", "mmHg"),
    (r"press.*(hpa|mbar)", "hPa"),
    (r"press", "Pa"),
    (r"count|people|person", "count"),
    (r"percent|%", "%"),
)
_DECIMAL_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def proposal(file_name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a commented TOML file with one mapping for a recording of this form.

    Raises:
        UsageError: when no column holds times.
    """
    if not rows:
        raise UsageError(
            "no row below the header fits it",
            where=file_name,
            remedy="give a CSV with rows of as many cells as its header names",
        )
    times = time_column(header, rows)
    if times is None:
        raise UsageError(
            "no column holds times",
            where=file_name,
            remedy="a recording needs one, such as 2026-11-22 14:00:00",
        )
    column, form = times
    cells = [cell for row in rows for cell in row]
    comma = not any(map(_DECIMAL_POINT.fullmatch, cells)) or (
        sum(bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in cells) > len(rows) // 2
    )
    stem = file_name.rpartition(".")[0] or file_name
    lines = [
        f"# A proposal for {file_name}, made from its first {len(rows)} rows.",
        "# Read it, correct it, save it, and name it with --map.",
        "[[mapping]]",
        f"name = {quoted(stem)}",
        f"device = {quoted(legal_name(stem.lower()))}  # last element of the SPIFFE ID",
        'kind = "occupancy"  # hvac, occupancy or energy',
        'place = ""',
        'description = ""',
    ]
    if comma and any(map(_DECIMAL_COMMA.fullmatch, cells)):
        lines.append('decimal = ","')
    lines += [
        "# timezone: the file does not say; write the zone of its clock, such as Europe/Brussels.",
        *_other_form(form, [row[header.index(column)] for row in rows]),
        f'time = {{ column = {quoted(column)}, format = {quoted(form)}, timezone = "UTC" }}',
        "",
        "# One line a column: unit (SenML), type (number, text, bool), point (its name).",
        "# A column that is left out is not replayed.",
        "[mapping.columns]",
    ]
    found = _column_lines(column, header, rows)
    if all(line.startswith("#") for line in found):
        raise UsageError(
            "no column besides the times has a name of its own",
            where=file_name,
            remedy="name every column in the first line, each differently",
        )
    return "\n".join(lines + found) + "\n"


def _other_form(form: str, values: Sequence[str]) -> list[str]:
    """Say so when day and month could be the other way round."""
    other = form.replace("%d/%m", "%m/%d")
    if other == form or not _all_times(values, instants.parser(other, "UTC")):
        return []
    return [f"# day and month could be the other way round: format = {quoted(other)}"]


def _column_lines(
    time_column_name: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    lines = []
    points: set[str] = set()
    for index, name in enumerate(header):
        if name == time_column_name:
            continue
        if not name or header.count(name) > 1:
            lines.append(f"# column {index + 1} has no name of its own: {name!r}")
            continue
        values = [row[index] for row in rows if row[index]]
        entry = {}
        point = legal_name(name)
        while point in points:
            point += "_"
        points.add(point)
        if point != name:
            entry["point"] = point
        odd = next((value for value in values if not _is_number(value)), None)
        if sum(map(_is_number, values)) < len(values) * NEARLY_ALL:
            entry["type"], odd = "text", None
        elif (unit := unit_of(name)) is not None:
            entry["unit"] = unit
        parts = ", ".join(f"{key} = {quoted(value)}" for key, value in entry.items())
        example = f"  # such as {values[0][:24]}" if values and values[0].isprintable() else ""
        table = f"{{ {parts} }}" if parts else "{}"
        if odd is not None:
            example += f"; not {quoted(odd[:24])}, such cells will be left out"
        line = f"{quoted(name)} = {table}{example}"
        lines.append(line if len(points) <= POINTS_MAX else f"# too many: {line}")
    if len(points) > POINTS_MAX:
        lines.insert(0, f"# A reading has {POINTS_MAX} points at most: choose among {len(points)}.")
    return lines


def time_column(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, str] | None:
    """Return the column that holds times, and their form; one named like it is preferred."""

    def likely(name: str) -> bool:
        return not re.search(r"date|time|stamp", name, re.IGNORECASE)

    for name in sorted(header, key=likely):
        values = [row[header.index(name)] for row in rows]
        for form in _FORMATS:
            if values and _all_times(values, instants.parser(form, "UTC")):
                return name, form
    return None


def _all_times(values: Sequence[str], parse: Callable[[str], int]) -> bool:
    """Say whether nearly all are times of our days; a broken row does not hide the column."""
    good = 0
    for value in values:
        try:
            good += _1990_US < parse(value) < _2100_US
        except (ValueError, OverflowError):
            continue
    return good > 0 and good >= len(values) * NEARLY_ALL


def unit_of(name: str) -> str | None:
    """Return the unit that a column of this name usually has."""
    for pattern, unit in _UNITS:
        if re.search(pattern, name, re.IGNORECASE):
            return unit
    return None


def _is_number(text: str) -> bool:
    return bool(_DECIMAL_POINT.fullmatch(text) or _DECIMAL_COMMA.fullmatch(text))


def legal_name(text: str) -> str:
    """Make a name that a point or a device may have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60]
    return name or "column"


def quoted(text: str) -> str:
    """Write text as TOML."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in plain) + '"'
