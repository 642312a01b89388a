"""The history seam: one point's values over time, thinned to what a chart can show.

A thinned series consists of real readings (the lowest and highest of each run, and the ends), so
that a peak is never smoothed away and a gap stays a gap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plantroom.wire.reading import Value

POINTS_MAX = 5000

Sampled = tuple[int, Value]  # time in microseconds since 1970, value


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which point, from when (included) to when (excluded), and how many values at most."""

    device: str
    point: str
    site: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    points_max: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The answer, in order of time; `rows` is how many readings it was thinned from."""

    site: str
    device: str
    point: str
    unit: str | None
    samples: tuple[Sampled, ...]
    rows: int


class History(Protocol):
    """Whoever remembers: the gateway's queue, the cloud's store."""

    async def __call__(self, query: HistoryQuery, /) -> Series | None:
        """Answer, or None when there is no such point."""
        ...


@dataclass(slots=True)
class _Run:
    """Some neighbouring readings, by their lowest and highest."""

    low: tuple[int, float]
    high: tuple[int, float]


def thin(rows: Iterable[Sampled], points_max: int) -> tuple[tuple[Sampled, ...], int]:
    """Thin rows (in order of time) to about `points_max`, in one pass and bounded memory.

    Text and truth keep their changes instead; when even those are too many, the newest.
    """
    thinner = _Thinner(max(points_max, 4))
    for row in rows:
        thinner.add(row)
    return thinner.samples(), thinner.rows


class _Thinner:
    def __init__(self, points_max: int) -> None:
        self.rows = 0
        self._runs_max = points_max  # merged to half when reached: two points a run
        self._width = 1
        self._filled = 0
        self._runs: list[_Run] = []
        self._changes: list[Sampled] = []
        self._first: Sampled | None = None
        self._last: Sampled | None = None

    def add(self, row: Sampled) -> None:
        self.rows += 1
        time_us, value = row
        if self._first is None:
            self._first = row
        if isinstance(value, str | bool):
            self._add_change(row)
        else:
            self._add_number(time_us, value)
        self._last = row

    def _add_change(self, row: Sampled) -> None:
        if self._last is None or self._last[1] != row[1]:
            self._changes.append(row)
            if len(self._changes) > 2 * self._runs_max:
                del self._changes[: self._runs_max]

    def _add_number(self, time_us: int, value: float) -> None:
        if self._filled == 0 or self._filled >= self._width:
            if len(self._runs) >= self._runs_max:
                self._merge()
            self._runs.append(_Run((time_us, value), (time_us, value)))
            self._filled = 1
            return
        run = self._runs[-1]
        self._filled += 1
        if value < run.low[1]:
            run.low = (time_us, value)
        if value > run.high[1]:
            run.high = (time_us, value)

    def _merge(self) -> None:
        pairs = zip(self._runs[::2], self._runs[1::2], strict=False)
        merged = [
            _Run(
                min(a.low, b.low, key=lambda sample: sample[1]),
                max(a.high, b.high, key=lambda sample: sample[1]),
            )
            for a, b in pairs
        ]
        if len(self._runs) % 2:
            merged.append(self._runs[-1])
        self._runs = merged
        self._width *= 2

    def samples(self) -> tuple[Sampled, ...]:
        if self._first is None or self._last is None:
            return ()
        if self._changes:
            return _distinct([*self._changes[-self._runs_max :], self._last])
        runs = self._runs
        if self._width > 1:
            while 2 * len(runs) > self._runs_max:
                self._merge()
                runs = self._runs
        inner = [sample for run in runs for sample in sorted({run.low, run.high})]
        return _distinct([self._first, *inner, self._last])


def _distinct(samples: Sequence[Sampled]) -> tuple[Sampled, ...]:
    """Drop a sample that repeats the one before it."""
    kept: list[Sampled] = []
    for sample in samples:
        if not kept or kept[-1] != sample:
            kept.append(sample)
    return tuple(kept)
