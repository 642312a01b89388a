"""Ratios as an SVG picture: a bar for each, its spread, and where the target lies."""

import math
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from tests.bench.kit.figures import Figure

_WIDTH, _LABELS, _ROW, _TOP, _BOTTOM, _RIGHT = 1000, 470, 30, 60, 40, 90
_COLOURS = {True: "#2a9d63", False: "#c8452f", None: "#7d8a97"}
_MEANING = {True: "met", False: "missed", None: "no target"}


def write(path: Path, figures: Iterable[Figure], title: str) -> None:
    """Draw every figure that has a ratio, on a logarithmic scale."""
    rows = [figure for figure in figures if figure.ratio and math.isfinite(figure.ratio)]
    path.write_text("\n".join(_picture(rows, title)) + "\n", encoding="utf-8")


def _picture(rows: list[Figure], title: str) -> Iterator[str]:
    height = _TOP + _ROW * len(rows) + _BOTTOM
    scale = _Scale(rows)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">'
    )
    yield f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    yield f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(title)}</text>'
    yield '<text x="12" y="44" fill="#555">ours ÷ peer; whisker: lowest and highest pair;'
    yield " black mark: the target (of ≥ figures right of it is good, of ≤ figures left)</text>"
    for mark in scale.marks():
        x = scale.place(mark)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"'
        yield f' stroke="{"#999" if mark == 1 else "#e3e3e3"}"/>'
        yield f'<text x="{x:.1f}" y="{height - 18}" text-anchor="middle">{mark:g}</text>'
    for at, figure in enumerate(rows):
        yield from _bar(figure, _TOP + _ROW * at, scale)
    yield "</svg>"


def _bar(figure: Figure, y: int, scale: "_Scale") -> Iterator[str]:
    ratio = figure.ratio or 1.0
    start, end = sorted((scale.place(1.0), scale.place(ratio)))
    label = f"{figure.figure} / {figure.peer_name}"
    yield f'<text x="{_LABELS - 8}" y="{y + 19}" text-anchor="end">{escape(label)}</text>'
    yield (
        f'<rect x="{start:.1f}" y="{y + 6}" width="{max(end - start, 1):.1f}" height="18"'
        f' fill="{_COLOURS[figure.ok]}"><title>{_MEANING[figure.ok]}</title></rect>'
    )
    if figure.spread:
        low, high = (scale.place(value) for value in figure.spread)
        yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 15}" y2="{y + 15}" stroke="#222"/>'
        end = max(end, high)
    if figure.target:
        x = scale.place(figure.target)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 2}" y2="{y + 28}" stroke="black"'
        yield ' stroke-width="3"/>'
        end = max(end, x)
    yield f'<text x="{end + 6:.1f}" y="{y + 19}">{ratio:.3g}</text>'


class _Scale:
    """Ratios to places, by their logarithm."""

    def __init__(self, rows: list[Figure]) -> None:
        values = [1.0]
        for row in rows:
            values += [row.ratio or 1.0, row.target or 1.0, *(row.spread or ())]
        values = [value for value in values if value > 0 and math.isfinite(value)]
        self._low = math.floor(math.log10(min(values)) * 2) / 2
        self._high = max(math.ceil(math.log10(max(values)) * 2) / 2, self._low + 0.5)

    def place(self, ratio: float) -> float:
        part = (math.log10(max(ratio, 1e-6)) - self._low) / (self._high - self._low)
        return _LABELS + max(part, 0.0) * (_WIDTH - _LABELS - _RIGHT)

    def marks(self) -> list[float]:
        powers = range(math.floor(self._low) - 1, math.ceil(self._high) + 1)
        steps = [step * 10.0**power for power in powers for step in (1, 2, 5)]
        return [step for step in steps if self._low <= math.log10(step) <= self._high]
