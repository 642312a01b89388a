"""How commands speak: data to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def line(text: str = "") -> None:
    """Write one line of data."""
    sys.stdout.write(text + "\n")


def text(block: str) -> None:
    """Write lines of data, at once."""
    sys.stdout.write(block)
    sys.stdout.flush()


def document(value: Any) -> None:
    """Write one JSON document on one line, at once."""
    line(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line for the person who watches, not for the pipe."""
    sys.stderr.write(f"plantroom: {text}\n")
    sys.stderr.flush()


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write aligned columns with a heading."""
    cells = [[*head], *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line("  ".join(padded).rstrip())


class Progress:
    """One line that is written over again, on a terminal only."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Write over the line."""
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
