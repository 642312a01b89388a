"""A CSV file as records, read as it is: quotes, padding, a row number that the header omits.

Every record says on which line it stands and where the next one begins, so that reading can go on
after a restart. What is broken is told to `reject`, with its line and column, and left out; the
damage of a quote that is never closed ends with its line.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from plantroom.wire.errors import ConfigError

LINE_BYTES_MAX = 256 * 1024
LINES_OF_A_RECORD_MAX = 8
_ROWS_LOOKED_AT = 32
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one cell, unquoted and without padding, and the column where it begins (1…)."""

    text: str
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row: cells in the order of the header; `offset` is the byte behind it."""

    cells: tuple[Cell, ...]
    line: int
    offset: int
    next_line: int


class RowError(Exception):
    """A row, or one cell of it, that cannot be used."""

    def __init__(self, what: str, *, line: int, column: int) -> None:
        super().__init__(what)
        self.line = line
        self.column = column


Reject = Callable[[RowError], None]


def split(text: str, delimiter: str) -> list[Cell]:
    """Split one record into cells; a doubled quote inside quotes stands for one.

    Raises:
        RowError: (line 0) when a quote is never closed, or something follows a closing one.
    """
    stop = re.escape(delimiter)
    pattern = re.compile(rf'[^\S{stop}]*"((?:[^"]|"")*)"[^\S{stop}]*(?={stop}|\Z)|([^{stop}]*)')
    cells: list[Cell] = []
    at = 0
    while True:
        match = pattern.match(text, at)
        if match is None:  # pragma: no cover -- the second branch matches the empty text
            raise AssertionError(text)
        quoted, plain = match.groups()
        start = at + len(match[0]) - len(match[0].lstrip())
        if quoted is None and plain.lstrip().startswith('"'):
            raise RowError("quote is not closed, or text follows it", line=0, column=start + 1)
        value = plain if quoted is None else quoted.replace('""', '"')
        cells.append(Cell(value.strip(), start + 1))
        at = match.end()
        if at == len(text):
            return cells
        at += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A CSV file's form: the names of its columns, and how its rows are laid out."""

    path: Path
    header: tuple[str, ...]
    delimiter: str
    numbered: bool  # rows begin with a number that the header does not name
    offset: int  # of the first row

    @classmethod
    def open(cls, path: Path) -> "Table":
        """Read the header and look at the first rows.

        Raises:
            ConfigError: when the file cannot be read, is empty, or its header is no header.
        """
        with _opened(path) as file:
            raw = file.readline(LINE_BYTES_MAX)
            offset = file.tell()
            head = raw.decode("utf-8-sig", "replace").rstrip("\r\n")
            _check_header(path, raw, head)
            layouts = [
                _layout(file, offset, _names(path, head, delimiter), delimiter)
                for delimiter in _delimiters(head)
            ]
        names, delimiter, widths = max(layouts, key=lambda layout: len(layout[2]))
        width = len(names)
        numbered = widths.count(width + 1) > widths.count(width)
        return cls(path=path, header=names, delimiter=delimiter, numbered=numbered, offset=offset)

    def records(
        self, offset: int, line: int, reject: Reject
    ) -> Generator[Record, None, tuple[int, int]]:
        """Give the records from `offset`, which is the beginning of line `line`.

        Returns the offset and the line at which the file ended.
        """
        width = len(self.header) + self.numbered
        with _opened(self.path) as file:
            file.seek(offset)
            skipped = int(self.numbered)
            return (
                yield from _records(
                    file, self.delimiter, {width}, line, reject=reject, skipped=skipped
                )
            )


def _names(path: Path, head: str, delimiter: str) -> tuple[str, ...]:
    """Return the names of the columns.

    Raises:
        ConfigError: when a quote is never closed.
    """
    try:
        return tuple(cell.text for cell in split(head, delimiter))
    except RowError as error:
        where = f"{path}:1:{error.column}"
        raise ConfigError(str(error), where=where, remedy="mend the header") from error


def _delimiters(head: str) -> list[str]:
    """Return what may separate the columns, the likeliest first; not what stands in quotes."""
    bare = _QUOTED.sub("", head)
    found = sorted(filter(bare.count, _DELIMITERS), key=bare.count, reverse=True)
    return found or [_DELIMITERS[0]]


def _layout(
    file: BinaryIO, offset: int, names: tuple[str, ...], delimiter: str
) -> tuple[tuple[str, ...], str, list[int]]:
    """Return how many cells each of the first rows has that fits such a header."""
    file.seek(offset)
    wanted = {len(names), len(names) + 1}
    rows = _records(file, delimiter, wanted, 2, reject=lambda _error: None, skipped=0)
    widths = [len(record.cells) for _, record in zip(range(_ROWS_LOOKED_AT), rows, strict=False)]
    return names, delimiter, widths


def _check_header(path: Path, raw: bytes, head: str) -> None:
    where, remedy = f"{path}:1", "give a CSV with a header in its first line"
    if b"\0" in raw:
        remedy = "save it as UTF-8"
        raise ConfigError("not text, or text in UTF-16", where=where, remedy=remedy)
    if len(raw) == LINE_BYTES_MAX and not raw.endswith(b"\n"):
        what = f"its header is longer than {LINE_BYTES_MAX} bytes"
        raise ConfigError(what, where=where, remedy=remedy)
    if not head.strip():
        raise ConfigError("no header", where=where, remedy=remedy)
    if "\r" in head:
        remedy = "save it with line ends that are a line feed"
        raise ConfigError("its lines end with a carriage return only", where=where, remedy=remedy)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}", where=str(path), remedy="give a readable CSV file"
        ) from error


def _records(  # noqa: PLR0913 -- the form of the table, spelled out
    file: BinaryIO,
    delimiter: str,
    widths: set[int],
    line: int,
    *,
    reject: Reject,
    skipped: int,
) -> Generator[Record, None, tuple[int, int]]:
    while raw := file.readline(LINE_BYTES_MAX):
        begin, after = line, file.tell()
        line += 1
        if not raw.endswith(b"\n") and len(raw) == LINE_BYTES_MAX:
            _skip_line(file)
            what = f"line is longer than {LINE_BYTES_MAX} bytes"
            reject(RowError(what, line=begin, column=LINE_BYTES_MAX))
            continue
        text = raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text.strip():
            continue
        try:
            cells, more = _cells(file, text, delimiter, widths)
        except RowError as error:
            file.seek(after)  # whatever was looked at behind it is a row of its own
            reject(RowError(str(error), line=begin, column=error.column))
            continue
        line += more
        yield Record(cells=tuple(cells[skipped:]), line=begin, offset=file.tell(), next_line=line)
    return file.tell(), line


def _cells(file: BinaryIO, text: str, delimiter: str, widths: set[int]) -> tuple[list[Cell], int]:
    """Split a record; one with an open quote may go on in the lines behind it, if that fits."""
    try:
        return _of_width(split(text, delimiter), widths, text), 0
    except RowError as error:
        if text.count('"') % 2 == 0:
            raise
        for more in range(1, LINES_OF_A_RECORD_MAX):
            raw = file.readline(LINE_BYTES_MAX)
            text += "\n" + raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
            try:
                return _of_width(split(text, delimiter), widths, text), more
            except RowError:
                if not raw:
                    break
        raise error from None


def _of_width(cells: list[Cell], widths: set[int], text: str) -> list[Cell]:
    if len(cells) in widths:
        return cells
    wanted = " or ".join(str(width) for width in sorted(widths))
    raise RowError(f"{len(cells)} cells, {wanted} are wanted", line=0, column=len(text) + 1)


def _skip_line(file: BinaryIO) -> None:
    while (raw := file.readline(LINE_BYTES_MAX)) and not raw.endswith(b"\n"):
        pass
