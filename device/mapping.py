"""Which column of a recording is which point: mappings in TOML, found by the header of the CSV.

A file may hold several mappings. Those that ship fit a header only if they name every column of
it; one of one's own may leave columns out, and the replay says which.
"""

import re
import tomllib
from collections.abc import Mapping as Table
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plantroom.device import inference, instants, table
from plantroom.wire.errors import ConfigError, PackError, SpiffeIdError, UsageError
from plantroom.wire.reading import POINTS_MAX, Point, Value
from plantroom.wire.spiffe import SpiffeId

SHIPPED = Path(__file__).parent / "mappings"
KINDS = ("hvac", "occupancy", "energy")
TYPES = ("number", "text", "bool")
_DIGITS_MAX = 1000
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BOOLS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLS |= {"0": False, "false": False, "no": False, "off": False}
_KEYS = {"name", "device", "kind", "place", "description", "time", "decimal", "columns"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: the point that its values become, their unit and their type."""

    column: str
    point: str
    unit: str | None = None
    type: str = "number"

    def value(self, text: str, decimal: str) -> Value:
        """Read one cell.

        Raises:
            ValueError: when it is empty or not of the column's type; the text says what it is.
        """
        if not text:
            raise ValueError(f"{self.column} is empty")
        if self.type == "text":
            return text
        if self.type == "bool":
            if text.lower() not in _BOOLS:
                raise ValueError(f"{self.column} is {text[:40]!r}, not true or false")
            return _BOOLS[text.lower()]
        if decimal != "." and "." in text:  # 1.234 may be meant as 1234
            raise ValueError(f"{self.column} is {text[:40]!r}, with a point where commas are")
        plain = text.replace(decimal, ".")
        if len(plain) > _DIGITS_MAX:
            raise ValueError(f"{self.column} is a number of {len(plain)} characters")
        if not _NUMBER.fullmatch(plain):
            raise ValueError(f"{self.column} is {text[:40]!r}, not a number")
        return int(plain) if plain.lstrip("+-").isdecimal() else float(plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How to read one kind of recording as one device's readings."""

    name: str
    device: str
    kind: str
    place: str = ""
    description: str = ""
    time_column: str
    time_format: str
    timezone: str
    decimal: str = "."
    columns: tuple[Column, ...]
    source: Path

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every column that it reads."""
        return (self.time_column, *(column.column for column in self.columns))

    def missing(self, header: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns that it reads and the header does not have."""
        return tuple(name for name in self.wanted if name not in header)

    def unread(self, header: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns of the header that it does not read."""
        return tuple(name for name in header if name not in self.wanted)


def find(csv_path: Path, map_path: Path | None) -> Mapping:
    """Return the mapping for this recording: one of `map_path`, else one that ships.

    Raises:
        UsageError: when no shipped mapping knows the header; `propose` writes one.
        ConfigError: when a file cannot be read, or a mapped column is not in the header.
    """
    header = table.Table.open(csv_path).header
    if map_path is None:
        for shipped in sorted(SHIPPED.glob("*.toml")):
            for mapping in load(shipped):
                if set(mapping.wanted) == set(header):
                    return _checked(mapping, header, csv_path)
        raise UsageError(
            "no mapping that ships knows the columns of this file",
            where=str(csv_path),
            remedy="save the proposal as a TOML file, correct it, and name it with --map",
        )
    mappings = load(map_path)
    best = min(mappings, key=lambda one: (len(one.missing(header)), len(one.unread(header))))
    return _checked(best, header, csv_path)


def _checked(mapping: Mapping, header: tuple[str, ...], csv_path: Path) -> Mapping:
    missing = mapping.missing(header)
    if missing:
        raise ConfigError(
            f"column {missing[0]!r} of mapping {mapping.name!r} ({mapping.source}) is missing",
            where=f"{csv_path}:1",
            remedy=f"the header has: {', '.join(header)}",
        )
    for name in mapping.wanted:
        if header.count(name) > 1:
            raise ConfigError(
                f"column {name!r} appears {header.count(name)} times",
                where=f"{csv_path}:1",
                remedy="give every column a name of its own",
            )
    return mapping


def load(path: Path) -> tuple[Mapping, ...]:
    """Read every mapping of a file.

    Raises:
        ConfigError: naming the file, the mapping and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the mappings: {error.strerror}", where=str(path), remedy="check --map"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", where=str(path), remedy="mend that line") from error
    entries = document.pop("mapping", None)
    if document or not isinstance(entries, list) or not entries:
        stray = next(iter(document), None)
        what = f"unknown section [{stray}]" if stray else "no [[mapping]]"
        raise ConfigError(what, where=str(path), remedy="a file holds one or more [[mapping]]")
    return tuple(_mapping(entry, path) for entry in entries)


def _mapping(entry: Table[str, Any], path: Path) -> Mapping:
    name = _text(entry, "name", path, "mapping")
    where = f"{path}, mapping {name!r}"
    _only(entry, _KEYS, where)
    time = entry.get("time")
    columns = entry.get("columns")
    if not isinstance(time, dict) or not isinstance(columns, dict):
        raise ConfigError("time or columns is missing", where=where, remedy="write both as tables")
    if not 1 <= len(columns) <= POINTS_MAX:
        what = "no columns" if not columns else f"{len(columns)} columns"
        remedy = f"name from 1 to {POINTS_MAX}, the most points that one reading has"
        raise ConfigError(what, where=where, remedy=remedy)
    _only(time, {"column", "format", "timezone"}, f"{where}, time")
    mapping = Mapping(
        name=name,
        device=_device(_text(entry, "device", path, name), where),
        kind=_one_of(KINDS, entry.get("kind"), "kind", where),
        place=_text(entry, "place", path, name, default=""),
        description=_text(entry, "description", path, name, default=""),
        time_column=_text(time, "column", path, name),
        time_format=_text(time, "format", path, name),
        timezone=_text(time, "timezone", path, name),
        decimal=_one_of((".", ","), entry.get("decimal", "."), "decimal", where),
        columns=tuple(_column(key, value, where) for key, value in columns.items()),
        source=path,
    )
    points = [column.point for column in mapping.columns]
    twice = next((point for point in points if points.count(point) > 1), None)
    if twice:
        raise ConfigError(
            f"point {twice!r} appears twice", where=where, remedy="a reading has each point once"
        )
    instants.parser(mapping.time_format, mapping.timezone)  # names a wrong time zone
    return mapping


def _column(name: str, entry: Any, where: str) -> Column:
    where = f"{where}, column {name!r}"
    if not isinstance(entry, dict):
        raise ConfigError("not a table", where=where, remedy='write { unit = "Cel" } or {}')
    _only(entry, {"point", "unit", "type"}, where)
    column = Column(
        column=name,
        point=entry.get("point", name),
        unit=entry.get("unit"),
        type=_one_of(TYPES, entry.get("type", "number"), "type", where),
    )
    try:
        Point(name=column.point, unit=column.unit, value=0)
    except (PackError, TypeError) as error:
        raise ConfigError(
            str(error), where=where, remedy='a point is named [A-Za-z0-9._:-]+: point = "…"'
        ) from error
    return column


def _only(entry: Table[str, Any], known: set[str], where: str) -> None:
    for key in entry:
        if key not in known:
            remedy = f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key {key}", where=where, remedy=remedy)


def _text(
    entry: Table[str, Any], key: str, path: Path, name: str, *, default: str | None = None
) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str) or (not value and default is None):
        raise ConfigError(
            f"{key} must be text", where=f"{path}, mapping {name!r}", remedy=f'write {key} = "…"'
        )
    return value


def _one_of(known: tuple[str, ...], value: Any, key: str, where: str) -> str:
    if value not in known:
        raise ConfigError(
            f"{key} is {value!r}", where=where, remedy=f"write one of {', '.join(known)}"
        )
    return str(value)


def _device(name: str, where: str) -> str:
    try:
        return SpiffeId.parse(f"spiffe://td/agent/{name}").name
    except SpiffeIdError as error:
        raise ConfigError(f"device: {error}", where=where, remedy="write [A-Za-z0-9._-]+") from None


def propose(csv_path: Path) -> str:
    """Write a mapping for an unknown recording, to be read and corrected by a person.

    Raises:
        UsageError: when no column holds times.
        ConfigError: when the file cannot be read.
    """
    opened = table.Table.open(csv_path)
    records = opened.records(opened.offset, 2, lambda _error: None)
    rows = [
        [cell.text for cell in record.cells]
        for _, record in zip(range(inference.ROWS_LOOKED_AT), records, strict=False)
    ]
    return inference.proposal(csv_path.name, opened.header, rows)
