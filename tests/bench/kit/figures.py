"""Figures: what a benchmark found, as a table for people, as JSON for machines, as an exit code."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line: our value, a peer's or an allowance, their ratio, and whether the target is met.

    `target` is about the ratio where there is one, else about our value. `ok` is None where
    nothing was promised or nothing could be compared (`note` says why). `spread`: lowest and
    highest ratio of the pairs.
    """

    figure: str
    unit: str
    ours: float | None = None
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    target: float | None = None
    ok: bool | None = None
    better: Better = "more"
    spread: tuple[float, float] | None = None
    note: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the fields that every benchmark gives."""
        return {
            "figure": self.figure,
            "ours": _rounded(self.ours),
            "peer": _rounded(self.peer),
            "peer_name": self.peer_name,
            "ratio": _rounded(self.ratio),
            "target": self.target,
            "ok": self.ok,
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two values measured one right after the other."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """Ours over the peer's."""
        return self.ours / self.peer if self.peer else math.inf


def compared(  # noqa: PLR0913 -- the parts of a line
    figure: str,
    pairs: Sequence[Pair],
    *,
    peer_name: str,
    unit: str,
    target: float | None = None,
    better: Better = "more",
    note: str = "",
) -> Figure:
    """Make the figure of interleaved pairs: medians, and the spread of the ratios."""
    ratios = [pair.ratio for pair in pairs]
    ratio = median(ratios)
    return Figure(
        figure=figure,
        unit=unit,
        ours=median(pair.ours for pair in pairs),
        peer=median(pair.peer for pair in pairs),
        peer_name=peer_name,
        ratio=ratio,
        target=target,
        ok=_met(ratio, target, better),
        better=better,
        spread=(min(ratios), max(ratios)),
        note=note,
    )


def alone(  # noqa: PLR0913 -- the parts of a line
    figure: str,
    ours: float,
    *,
    unit: str,
    target: float | None = None,
    better: Better = "more",
    note: str = "",
) -> Figure:
    """Make a figure that has no peer."""
    return Figure(
        figure=figure,
        unit=unit,
        ours=ours,
        target=target,
        ok=_met(ours, target, better),
        better=better,
        note=note,
    )


def missing(figure: str, *, peer_name: str, unit: str, why: str) -> Figure:
    """Make the line that says that a peer is not there."""
    return Figure(figure=figure, unit=unit, peer_name=f"{peer_name} (missing)", note=why)


def _met(value: float, target: float | None, better: Better) -> bool | None:
    if target is None:
        return None
    return value >= target if better == "more" else value <= target


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def table(figures: Iterable[Figure]) -> str:
    """Lay figures out in columns."""
    head = ("figure", "ours", "peer", "", "ratio", "spread", "target", "", "unit", "")
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at in {0, 3, 7, 8, 9} else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(line: Figure) -> tuple[str, ...]:
    sign = "≥" if line.better == "more" else "≤"
    return (
        line.figure,
        _number(line.ours),
        _number(line.peer),
        line.peer_name or "",
        _number(line.ratio),
        "" if line.spread is None else f"{_number(line.spread[0])}..{_number(line.spread[1])}",
        "" if line.target is None else f"{sign} {_number(line.target)}",
        {True: "ok", False: "MISSED", None: ""}[line.ok],
        line.unit,
        line.note,
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def exit_code(figures: Iterable[Figure]) -> int:
    """Return 1 when a figure misses its target."""
    return int(any(figure.ok is False for figure in figures))


def as_json(figures: Iterable[Figure]) -> str:
    """Return the figures as the JSON that `--json` prints."""
    return json.dumps([figure.as_json() for figure in figures], indent=1)
